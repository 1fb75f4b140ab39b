"""What an experiment will take, before anything is run: stages, downloads, memory, disk, hours."""

from harness.commands.plan.command import PlanOptions, make_plan_of, show_plan

__all__ = ["PlanOptions", "make_plan_of", "show_plan"]
