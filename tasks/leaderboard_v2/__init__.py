"""The Open LLM Leaderboard v2, run by EleutherAI lm-eval with its own task definitions.

`evaluate_leaderboard` scores a saved model, `columns_from_scores` turns per-row scores into the
table's columns (vectorised over bootstrap weights), `describe_missing` says which benchmarks have
no data. The names are imported from their modules, so that pure ones do not load lm-eval:
`tasks.leaderboard_v2.evaluate`, `tasks.leaderboard_v2.scoring`, `tasks.leaderboard_v2.rows`.
"""
