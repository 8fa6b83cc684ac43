"""No program is worse off with the plugin than with the SDK alone: random worlds, each run with and without it.

``uv run --group test python -m tests.benchmarks.no_harm --worlds 200 --seed 1``
(also ``--only SEED ...``, ``--trace``, ``--jobs 2``, ``--json FILE``, ``--summary``)

A world (``worlds``) is a server (``limits``, ``gateway``), what it tells (``wording``), and a program of 60 to 250 calls by
asyncio or by threads (``threads``). The real SDK runs it on a virtual clock (``play``), each run in a process of its own
(``processes``): alone, with the plugin, and retrying for ever, under the same settings. ``judge`` says what harm is. A seed
always gives the same world and the same runs.
"""
