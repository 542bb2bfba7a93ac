# Einstellungen für Prüfungen, 设置
import os
from pathlib import Path

import environ

from .base import *  # noqa

BASE_DIR = Path(__file__).resolve().parent.parent
DATA_DIR = BASE_DIR / "données"
env = environ.Env(DEBUG=(bool, False), CACHE_URL=(str, "locmemcache://"))

SECRET_KEY = os.environ["SECRET_KEY"]
DEBUG = env("DEBUG")
ALLOWED_HOSTS = ["example.org", ".beispiel.de"]
EMAIL = env.email_url("EMAIL_URL", default="smtp://localhost:25")
TOKEN = config("API_TOKEN", cast=str)
HOSTS = os.getenv("TRUSTED_HOSTS", "").split(",")
DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.postgresql",
        "NAME": env("POSTGRES_DB"), "HOST": env(
            "POSTGRES_HOST",
        ),
    },
    "other": {"ENGINE": "django.db.backends.sqlite3", "NAME": DATA_DIR / "db.sqlite3"},
}
MEDIA_ROOT = os.path.join(DATA_DIR, "médias")
STATICFILES_DIRS = [BASE_DIR / "node_modules" / "bootstrap"]
CACHES = {"default": {"BACKEND": "django.core.cache.backends.db.DatabaseCache", "LOCATION": "c"}}
COMPRESS_OFFLINE = not DEBUG
LANGUAGES = [
    ("de", "Grüße"),
    ("zh-hans", "中文(简体)"),  # Chinese
]


class Production(Base):
    SECRET_KEY = values.SecretValue()
    HOSTS = values.ListValue([], environ_prefix="ПРЕФИКС")
