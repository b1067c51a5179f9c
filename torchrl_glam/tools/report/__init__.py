"""Report of Atari runs beside the published methods: ``python -m torchrl_glam.tools.report RUNS...``.

The modules in the order of the data: ``runs`` reads ``result.json`` files, ``methods`` puts them into one table and
names the methods, ``panels`` aggregates over the games that methods share, ``tables`` and ``pictures`` show the
results, and ``document`` writes the report. ``limits`` says how many games and seeds an aggregate needs, ``published``
holds the scores of papers. Everything beyond ``__main__`` needs the extra ``[report]``.
"""
