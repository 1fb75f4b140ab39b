"""`python -m harness publish`: a result in the repository, with what it cannot show."""
