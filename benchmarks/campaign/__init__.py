"""The reliability campaign: damaged files, kills, full disks and numbers that must not change; see ``reliability.md``.

``make fuzz`` and ``make faults`` run it and record what they saw; the slow tests run a bounded part.
"""
