"""What a run can do besides its steps, under kills and power cuts: signals, effects, groups, limits, schedules, memos.

``actors.py`` are the processes; ``rules.py`` states what must hold, beside what the checker states of every run;
``storm.py`` kills. The power laboratory cuts a script of the same processes (``tests/faults/power/features.py``).
"""
