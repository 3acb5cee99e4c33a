"""A project with one application. Which release of its migrations there is, DJANGO_RELEASE says; in a real project the image."""

import os
from urllib.parse import urlsplit

DATABASE = urlsplit(os.environ["DATABASE_URL"])
SECRET_KEY = "for tests alone"
INSTALLED_APPS = ["shop"]
MIGRATION_MODULES = {"shop": "shop.releases." + os.environ.get("DJANGO_RELEASE", "base")}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.postgresql",
        "HOST": DATABASE.hostname,
        "PORT": DATABASE.port or 5432,
        "NAME": DATABASE.path.lstrip("/"),
        "USER": DATABASE.username,
        "PASSWORD": DATABASE.password,
    }
}
