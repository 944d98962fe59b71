"""The shop of the examples with an app more, a store more, and the database in memory."""

import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[3] / "examples" / "django_shop"))

from project.settings import *  # noqa: F403
from project.settings import DATA, INSTALLED_APPS

INSTALLED_APPS = [*INSTALLED_APPS, "tests.django.inside.extra"]
DATABASES = {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}}
TAQUBA = {
    "default": {"STORE": DATA / "taquba", "DURABILITY": "relaxed", "DEFAULT_CONFIG": {"MAX_ATTEMPTS": 4}},
    "other": {"STORE": DATA / "other", "DURABILITY": "relaxed"},
}
if "TAQUBA_TEST_URL" in os.environ:  # on a server, a schema each
    for alias in TAQUBA:
        TAQUBA[alias]["STORE"] = f"{os.environ['TAQUBA_TEST_URL']}_{alias}"
TASKS = {
    "default": {
        "BACKEND": "taquba_workflow_sync.contrib.django.tasks.TaqubaBackend",
        "QUEUES": ["default", "mails"],
    },
    "any": {
        "BACKEND": "taquba_workflow_sync.contrib.django.tasks.TaqubaBackend",
        "QUEUES": [],
        "OPTIONS": {"store": "other"},
    },
    "now": {"BACKEND": "taquba_workflow_sync.contrib.django.tasks.TaqubaBackend", "OPTIONS": {"immediate": True}},
}  # fmt: skip
DEBUG = False
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
