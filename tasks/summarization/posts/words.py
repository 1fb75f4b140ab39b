"""The words of the posts: few, short, and of one kind of fact each where that is possible.

People and things occur in two kinds of facts, so that a summary can mistake one for the other.
"""

from __future__ import annotations


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


def _phrases(text: str) -> tuple[str, ...]:
    return tuple(text.split(","))


PEOPLE = _words("brother sister cousin uncle aunt friend boss neighbor father mother")
DEEDS = _words("sold lost burned ruined dropped painted")
THINGS = _words("bike phone car lamp guitar watch boat camera ring coat")
REASONS = _words("money fun revenge love fame luck envy fear")
FEELINGS = _words("angry sad worried scared confused ashamed hurt lonely")
ACTIONS = _phrases(
    "move out,leave town,call the police,write a letter,say sorry,buy a new one,stay calm,"
    "ask for help"
)

AGES = _words("19 22 25 28 31 34 37 40")
CITIES = _words("Paris Rome London Oslo Lima Cairo Boston Berlin")
DAYS = _words("Monday Tuesday Wednesday Thursday Friday Saturday Sunday")
PETS = _words("dog cat horse bird rabbit snake")
WEATHERS = _words("rainy sunny cold windy hot foggy")
JOBS = _words("nurse cook pilot baker farmer singer")
FOODS = _words("soup pizza rice fish bread salad")

SUBREDDITS = _words("relationships advice family legaladvice")
TITLES = _phrases("Need some advice,What should I do?,Please help me,Not sure what to do")
FILLERS = _phrases(
    "Sorry for the long post.,Thanks for reading.,First time posting here.,"
    "This is a throwaway account.,Any advice is welcome.,I am typing this on my phone at work."
)
