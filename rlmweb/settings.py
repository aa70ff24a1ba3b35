"""Settings, all from the environment; docs/operations.md lists what each variable does."""

from __future__ import annotations

import os
import secrets
import warnings
from pathlib import Path
from urllib.parse import quote, unquote, urlsplit

import dj_database_url
from csp.constants import NONCE, NONE, SELF
from django.core.exceptions import ImproperlyConfigured

from rlmweb import env

BASE_DIR = Path(__file__).resolve().parent.parent
DATA_DIR = Path(env.text("RLMWEB_DATA", str(BASE_DIR / "data"))).expanduser().resolve()
try:
    DATA_DIR.mkdir(mode=0o700, parents=True, exist_ok=True)
except OSError as error:
    raise ImproperlyConfigured(f"RLMWEB_DATA names {DATA_DIR}, which cannot be made: {error.strerror}") from None


def _own_secret(name: str) -> str:
    """A secret of this instance, made on first start and kept in the data directory, readable by its owner alone."""
    path = DATA_DIR / name
    if not path.exists():
        draft = path.with_name(f"{name}.{os.getpid()}")
        draft.touch(mode=0o600)
        draft.write_text(secrets.token_urlsafe(50))
        try:
            os.link(draft, path)  # link, not rename: of two processes starting at once the first one's secret stays
        except FileExistsError:
            pass
        finally:
            draft.unlink()
    return path.read_text()


# — the instance —
DEBUG = env.flag("RLMWEB_DEBUG")
LOCAL = env.flag("RLMWEB_LOCAL")  # one person on one machine: signed in as the local owner, 127.0.0.1 only
HTTPS = env.flag("RLMWEB_HTTPS")
SECRET_KEY = env.text("DJANGO_SECRET_KEY", like=".{32,}", hint="a secret of at least 32 characters") or _own_secret(
    "secret-key"
)
BIND = env.text("RLMWEB_BIND", "127.0.0.1", like=r"[\w.-]+|[0-9a-fA-F:]+", hint="an address or a name, without a port")
PORT = env.number("PORT", 8000, least=1, most=65535)
ALLOWED_HOSTS = env.words(
    "RLMWEB_HOSTS",
    "localhost,127.0.0.1,[::1]",
    like=r"\.?[\w.-]+|\[[0-9a-fA-F:]+\]",
    hint="host names with commas, without https:// and ports, and not *: links in mails would lead wherever a request says",
)
if not ALLOWED_HOSTS:
    raise ImproperlyConfigured("RLMWEB_HOSTS must name at least one host, such as rlm.example.org")
CSRF_TRUSTED_ORIGINS = env.words(
    "RLMWEB_ORIGINS", like=r"https?://[\w.*-]+(:\d+)?", hint="origins with commas, such as https://rlm.example.org"
)
LOCAL_OWNER_EMAIL = "owner@localhost.localdomain"

INSTALLED_APPS = [
    "daphne",
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.humanize",
    "django.contrib.messages",
    "django.contrib.sessions",
    "whitenoise.runserver_nostatic",
    "django.contrib.staticfiles",
    "allauth",
    "allauth.account",
    "allauth.mfa",
    "allauth.usersessions",
    "allauth.socialaccount",
    "allauth.socialaccount.providers.openid_connect",
    "channels",
    "csp",
    "django_htmx",
    "workspaces",
    "analyses",
]
MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "csp.middleware.CSPMiddleware",
    "workspaces.middleware.NulMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "workspaces.middleware.LocalOwnerMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "allauth.account.middleware.AccountMiddleware",
    "django_htmx.middleware.HtmxMiddleware",
    "workspaces.middleware.HtmxSignInMiddleware",
    "analyses.middleware.SharedMiddleware",
    "workspaces.middleware.ProviderMiddleware",
]
ROOT_URLCONF = "rlmweb.urls"
ASGI_APPLICATION = "rlmweb.asgi.application"
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [BASE_DIR / "templates"],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
                "workspaces.context.workspace",
            ]
        },
    }
]

# — the database: SQLite in the data directory, or what DATABASE_URL names —
DATABASE_URL = env.url(
    "DATABASE_URL", f"sqlite:///{quote(str(DATA_DIR / 'db.sqlite3'))}", schemes=("sqlite", "postgres", "postgresql")
)
try:
    DATABASES = {"default": dj_database_url.parse(DATABASE_URL, conn_max_age=60, conn_health_checks=True)}
except ValueError:
    raise ImproperlyConfigured("DATABASE_URL must be like postgres://user:password@host:5432/name") from None
if not DATABASES["default"]["NAME"]:
    raise ImproperlyConfigured("DATABASE_URL must name a database: postgres://user:password@host/name")
if DATABASES["default"]["ENGINE"].endswith("sqlite3"):
    # IMMEDIATE: a transaction that will write takes the lock at its start, so two of them wait instead of failing.
    DATABASES["default"]["OPTIONS"] = {
        "transaction_mode": "IMMEDIATE",
        "timeout": 20,
        "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL; PRAGMA cache_size=-32000; PRAGMA mmap_size=134217728;",
    }
    DATABASES["default"]["CONN_MAX_AGE"] = None
    # A file, not memory: the recorder's thread has a connection of its own, in tests too.
    DATABASES["default"]["TEST"] = {"NAME": str(DATA_DIR / "test.sqlite3")}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

# — Redis: wake-ups and text still being written; losing it loses nothing else —
REDIS_URL = env.url("REDIS_URL", schemes=("redis", "rediss", "unix"))
CHANNEL_LAYERS = {
    "default": {"BACKEND": "channels_redis.pubsub.RedisPubSubChannelLayer", "CONFIG": {"hosts": [REDIS_URL]}}
    if REDIS_URL
    else {"BACKEND": "channels.layers.InMemoryChannelLayer"}
}
# The cache holds the counts that limit guessing at sign-in; workspaces/cache.py goes on in memory while Redis is away.
CACHES: dict[str, dict[str, object]] = {
    "default": {"BACKEND": "workspaces.cache.Cache", "LOCATION": REDIS_URL, "KEY_PREFIX": "rlmweb"}
    if REDIS_URL
    else {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"}
}
if REDIS_URL:
    CACHES["default"]["OPTIONS"] = {"socket_timeout": 2, "socket_connect_timeout": 2}
# Celery names a socket in its own way.
CELERY_BROKER_URL = REDIS_URL.replace("unix://", "redis+socket://", 1) if REDIS_URL else "memory://"
WORKERS = bool(REDIS_URL)  # workers read what is uploaded; without a broker, whoever takes it
CELERY_TASK_IGNORE_RESULT = True
CELERY_BROKER_CONNECTION_RETRY_ON_STARTUP = True
CELERY_BROKER_CONNECTION_MAX_RETRIES = None  # for ever: without Redis a worker goes on with its runs, and sweeps
CELERY_BROKER_TRANSPORT_OPTIONS = {"socket_timeout": 5, "socket_connect_timeout": 5, "max_retries": 1}
CELERY_WORKER_HIJACK_ROOT_LOGGER = False
CELERY_WORKER_CANCEL_LONG_RUNNING_TASKS_ON_CONNECTION_LOSS = True  # the later default; ours end in a moment anyway
CELERY_TASK_PUBLISH_RETRY = False  # a message is only a wake-up: the workers' sweep finds what it does not reach

# — accounts —
AUTH_USER_MODEL = "workspaces.User"
AUTHENTICATION_BACKENDS = [
    "django.contrib.auth.backends.ModelBackend",
    "allauth.account.auth_backends.AuthenticationBackend",
]
PASSWORD_HASHERS = [
    "django.contrib.auth.hashers.Argon2PasswordHasher",
    "django.contrib.auth.hashers.PBKDF2PasswordHasher",
]
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": f"django.contrib.auth.password_validation.{name}"}
    for name in ("UserAttributeSimilarityValidator", "MinimumLengthValidator", "CommonPasswordValidator")
]
LOGIN_URL = "account_login"
LOGIN_REDIRECT_URL = "home"
ACCOUNT_USER_MODEL_USERNAME_FIELD = None
ACCOUNT_LOGIN_METHODS = {"email"}
ACCOUNT_SIGNUP_FIELDS = ["email*", "password1*"]
ACCOUNT_ADAPTER = "workspaces.adapter.AccountAdapter"
ACCOUNT_LOGOUT_ON_GET = False
USERSESSIONS_ADAPTER = "workspaces.adapter.SessionsAdapter"
MFA_ADAPTER = "workspaces.mfa.MFAAdapter"
MFA_SUPPORTED_TYPES = ["totp", "webauthn", "recovery_codes"]
MFA_PASSKEY_LOGIN_ENABLED = True
MFA_TOTP_ISSUER = "rlmweb"
MFA_TOTP_TOLERANCE = 1  # half-minutes by which a phone's clock may be wrong, or whoever types late (RFC 6238, 5.2)
EMAIL_URL = env.url("EMAIL_URL", schemes=("smtp", "smtps"))
# Without a mail server nobody is told to wait for a mail.
ACCOUNT_EMAIL_VERIFICATION = env.choice(
    "RLMWEB_EMAIL_VERIFICATION", "optional" if EMAIL_URL else "none", "mandatory", "optional", "none"
)
ACCOUNT_EMAIL_NOTIFICATIONS = bool(EMAIL_URL)  # of a changed password, a new second factor, another address
MFA_ALLOW_UNVERIFIED_EMAIL = ACCOUNT_EMAIL_VERIFICATION != "mandatory"  # such an instance may have no mail at all
MFA_WEBAUTHN_ALLOW_INSECURE_ORIGIN = not HTTPS  # browsers themselves allow passkeys over http on localhost alone
SIGNUP_OPEN = env.flag("RLMWEB_SIGNUP", True)
EMAIL_BACKEND = (
    "django.core.mail.backends.smtp.EmailBackend" if EMAIL_URL else "django.core.mail.backends.console.EmailBackend"
)
# smtp://user:password@host:587 (STARTTLS where a user is named), or smtps://… (TLS from the start, port 465)
_mail = urlsplit(EMAIL_URL)
EMAIL_HOST, EMAIL_HOST_USER, EMAIL_HOST_PASSWORD = (
    _mail.hostname or "",
    unquote(_mail.username or ""),
    unquote(_mail.password or ""),
)
EMAIL_USE_SSL = _mail.scheme == "smtps"
EMAIL_USE_TLS = bool(EMAIL_HOST_USER) and not EMAIL_USE_SSL
EMAIL_PORT = _mail.port or (465 if EMAIL_USE_SSL else 587 if EMAIL_USE_TLS else 25)
EMAIL_TIMEOUT = 10
DEFAULT_FROM_EMAIL = SERVER_EMAIL = env.text(
    "RLMWEB_FROM",
    "rlmweb@localhost",
    like=r"[^<>@]*<[^<>@\s]+@[\w.-]+>|[^<>@\s]+@[\w.-]+",
    hint="an e-mail address, such as rlmweb@example.org or Desk <desk@example.org>",
)

# — signing in by an OpenID Connect provider, where one is named —
OIDC_ISSUER = env.url("RLMWEB_OIDC_ISSUER", schemes=("https", "http")).rstrip("/")
OIDC_CLIENT_ID = env.text("RLMWEB_OIDC_CLIENT_ID")
OIDC_SECRET = env.text("RLMWEB_OIDC_SECRET")
OIDC_NAME = env.text("RLMWEB_OIDC_NAME", "single sign-on", like=".{1,60}", hint="at most 60 characters")
_issuer = urlsplit(OIDC_ISSUER)
if len({bool(OIDC_ISSUER), bool(OIDC_CLIENT_ID), bool(OIDC_SECRET)}) > 1:
    raise ImproperlyConfigured(
        "RLMWEB_OIDC_ISSUER, RLMWEB_OIDC_CLIENT_ID and RLMWEB_OIDC_SECRET go together: set all three, or none"
    )
if _issuer.scheme == "http" and _issuer.hostname not in ("localhost", "127.0.0.1", "::1"):
    raise ImproperlyConfigured(
        "RLMWEB_OIDC_ISSUER must start with https://: what comes from there says who somebody is. http goes on this machine alone"
    )
OIDC_ORIGIN = f"{_issuer.scheme}://{_issuer.netloc.rpartition('@')[2]}" if OIDC_ISSUER else ""
SOCIALACCOUNT_ADAPTER = "workspaces.adapter.SocialAccountAdapter"
SOCIALACCOUNT_PROVIDERS = {
    "openid_connect": {
        "OAUTH_PKCE_ENABLED": True,
        "APPS": [
            {
                "provider_id": "sso",
                "name": OIDC_NAME,
                "client_id": OIDC_CLIENT_ID,
                "secret": OIDC_SECRET,
                "settings": {"server_url": OIDC_ISSUER},
            }
        ]
        if OIDC_ISSUER
        else [],
    }
}

# — security —
BEHIND_PROXY = env.flag("RLMWEB_BEHIND_PROXY")
SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https") if BEHIND_PROXY else None
ALLAUTH_TRUSTED_PROXY_COUNT = int(BEHIND_PROXY)  # whose address the limits on guessing count
SECURE_REDIRECT_EXEMPT = [r"^healthz$"]  # asked from the machine itself, past the proxy
SECURE_SSL_REDIRECT = SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = HTTPS
SECURE_HSTS_SECONDS = env.number("RLMWEB_HSTS_SECONDS", 31_536_000 if HTTPS else 0, most=315_360_000)
SECURE_HSTS_INCLUDE_SUBDOMAINS = SECURE_HSTS_PRELOAD = HTTPS
SECURE_REFERRER_POLICY = "same-origin"
X_FRAME_OPTIONS = "DENY"
SESSION_COOKIE_SAMESITE = CSRF_COOKIE_SAMESITE = "Lax"
CONTENT_SECURITY_POLICY = {
    "DIRECTIVES": {
        "default-src": [SELF],
        "script-src": [SELF, NONCE],
        "style-src": [SELF, NONCE],
        "img-src": [SELF, "data:"],
        "connect-src": [SELF],
        "object-src": [NONE],
        "base-uri": [NONE],
        # Browsers hold the redirect after a form against this too: the button to the provider is one.
        "form-action": [SELF, OIDC_ORIGIN] if OIDC_ORIGIN else [SELF],
        "frame-ancestors": [NONE],
    }
}

# — files —
STATIC_URL = "/static/"
STATIC_ROOT = BASE_DIR / "staticfiles"
STATICFILES_DIRS = [BASE_DIR / "static"]
STORAGES = {
    "default": {"BACKEND": "django.core.files.storage.FileSystemStorage", "OPTIONS": {"location": DATA_DIR / "files"}},
    "blobs": {
        "BACKEND": "django.core.files.storage.FileSystemStorage",
        "OPTIONS": {
            "location": DATA_DIR / "blobs",
            "file_permissions_mode": 0o600,
            "directory_permissions_mode": 0o700,
        },
    },
    "staticfiles": {
        "BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"
        if DEBUG
        else "whitenoise.storage.CompressedManifestStaticFilesStorage"
    },
}
# — blobs in an object store, shared by web processes and workers on any number of hosts —
S3_BUCKET = env.text("S3_BUCKET", like=r"[\w.-]{3,255}", hint="the name of a bucket alone, without s3:// or a path")
S3_ENDPOINT_URL = env.url("S3_ENDPOINT_URL", schemes=("http", "https"))
S3_REGION = env.text("S3_REGION", like=r"[\w-]+", hint="the name of a region, such as eu-central-1")
S3_ACCESS_KEY = env.text("S3_ACCESS_KEY")
S3_SECRET_KEY = env.text("S3_SECRET_KEY")
if bool(S3_ACCESS_KEY) != bool(S3_SECRET_KEY):
    raise ImproperlyConfigured("S3_ACCESS_KEY and S3_SECRET_KEY go together: set both, or neither")
if S3_BUCKET:
    STORAGES["blobs"] = {
        "BACKEND": "storages.backends.s3.S3Storage",
        "OPTIONS": {
            "bucket_name": S3_BUCKET,
            "location": "blobs",
            "endpoint_url": S3_ENDPOINT_URL or None,
            "region_name": S3_REGION or None,
            "access_key": S3_ACCESS_KEY or None,  # None: what the machine's own role or profile gives
            "secret_key": S3_SECRET_KEY or None,
            "default_acl": None,
            "file_overwrite": True,  # a name stands for its bytes: writing it again changes nothing
        },
    }
elif S3_ENDPOINT_URL or S3_ACCESS_KEY:
    raise ImproperlyConfigured(
        "S3_ENDPOINT_URL and S3_ACCESS_KEY go with S3_BUCKET: name the bucket that holds the blobs"
    )
WHITENOISE_USE_FINDERS = DEBUG
FILE_UPLOAD_MAX_MEMORY_SIZE = 1 << 20
DATA_UPLOAD_MAX_MEMORY_SIZE = 8 << 20
DATA_UPLOAD_MAX_NUMBER_FILES = 20_000

# — limits of uploads —
UPLOAD_FILES = env.number("RLMWEB_UPLOAD_FILES", 10_000, least=1, most=10_000_000)
UPLOAD_BYTES = env.number("RLMWEB_UPLOAD_BYTES", 2 << 30, least=1, most=1 << 50)
UPLOAD_CHARACTERS = env.number("RLMWEB_UPLOAD_CHARACTERS", 2 << 30, least=1, most=1 << 50)
ARCHIVE_RATIO = env.number("RLMWEB_ARCHIVE_RATIO", 100, least=1, most=1_000_000)
ARCHIVE_DEPTH = env.number("RLMWEB_ARCHIVE_DEPTH", 2, least=1, most=10)
EXTRACT_SECONDS = env.number("RLMWEB_EXTRACT_SECONDS", 300, least=1, most=86_400)

# — model endpoints from the environment —
_model = {"like": r"\S{1,120}", "hint": "the name of a model: at most 120 characters without blanks"}
OPENAI_API_KEY = env.text("OPENAI_API_KEY", like="[!-~]+", hint="a key: letters, digits and signs without blanks")
OPENAI_BASE_URL = env.url("OPENAI_BASE_URL", schemes=("http", "https"))
OPENAI_MODEL = env.text("OPENAI_MODEL", "gpt-5", **_model)
OPENAI_SUB_MODEL = env.text("OPENAI_SUB_MODEL", "gpt-5-mini" if OPENAI_MODEL == "gpt-5" else OPENAI_MODEL, **_model)
OPENAI_DIALECT = env.choice("OPENAI_DIALECT", "async", "async", "paper")
REPLY_CACHE = env.flag("RLMWEB_REPLY_CACHE")  # the same request is answered from disk: for re-runs and tests
OPENAI_WINDOW = env.number("OPENAI_WINDOW", 128_000, least=2_000, most=100_000_000)

# Which workspaces may use it: all, none, or those of these slugs. The command line is the operator's and always may.
_offer = "all, none, or the slugs of workspaces (as in /w/<slug>/) with commas"
ENDPOINT_OFFER = env.words("RLMWEB_ENDPOINT_OFFER", "all", like=r"[-\w]+", hint=_offer)
if not ENDPOINT_OFFER:
    raise ImproperlyConfigured(f"RLMWEB_ENDPOINT_OFFER must be {_offer}")
if len(ENDPOINT_OFFER) > 1 and {"all", "none"} & set(ENDPOINT_OFFER):
    raise ImproperlyConfigured("RLMWEB_ENDPOINT_OFFER must be all or none alone, or slugs of workspaces, not both")

# — model endpoints of workspaces: the first secret encrypts their keys, all of them decrypt; hosts that may be private —
SECRETS = env.words("RLMWEB_SECRETS", like=".{32,}", hint="secrets of at least 32 characters each, with commas") or [
    _own_secret("endpoint-secret")
]
AUDIT_DAYS = env.number("RLMWEB_AUDIT_DAYS", 365, most=36_500)  # 0: for ever
DELETION_DAYS = env.number("RLMWEB_DELETION_DAYS", 7, most=3_650)  # for which a deleted workspace can be brought back
ENDPOINT_HOSTS = env.words(
    "RLMWEB_ENDPOINT_HOSTS", like=r"[\w.-]+|[0-9a-fA-F:]+", hint="host names or addresses with commas, without ports"
)

# — the sandbox and the worker —
SANDBOX_BACKEND = env.choice("RLMWEB_SANDBOX", "firejail", "firejail", "bubblewrap")
SANDBOX_PREFIX = env.text("RLMWEB_SANDBOX_PREFIX", like="/.+", hint="a path that begins with /") or None
SANDBOX_SPARE = env.number("RLMWEB_SANDBOX_SPARE", 1, most=20)
RUNS_AT_ONCE = env.number("RLMWEB_RUNS_AT_ONCE", 50, least=1, most=1000)
WARM_SECONDS = env.number("RLMWEB_WARM_SECONDS", 600, most=86_400)
WARM_MEMORY_MB = env.number("RLMWEB_WARM_MEMORY_MB", 1024, most=1 << 20)
LEASE_SECONDS = env.number("RLMWEB_LEASE_SECONDS", 20, least=3, most=3_600)

# — the rest —
LANGUAGE_CODE = "en-gb"
USE_I18N = False
USE_TZ = True
TIME_ZONE = "UTC"
LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {
        "line": {"format": "{asctime} {levelname} {name}: {message}", "style": "{"},
        "one line": {"()": "rlmweb.lines.OneLine", "format": "{asctime} {levelname} {name}: {message}", "style": "{"},
    },
    "handlers": {
        "console": {"class": "logging.StreamHandler", "formatter": "line"},
        "strangers": {"class": "logging.StreamHandler", "formatter": "one line"},
    },
    "filters": {"redis away": {"()": "analyses.outage.RedisAway"}},
    "root": {"handlers": ["console"], "level": env.choice("RLMWEB_LOG", "INFO", "DEBUG", "INFO", "WARNING", "ERROR")},
    "loggers": {
        "django.request": {"level": "ERROR"},
        # Requests for another host, forms that are too large: what anybody can send is no error of this site.
        "django.security": {"handlers": ["strangers"], "propagate": False},
        "channels_redis.pubsub": {"filters": ["redis away"]},
        "daphne": {"level": "WARNING"},
        "httpx": {"level": "WARNING"},
        "httpx2": {"level": "WARNING"},
        "openai": {"level": "WARNING"},
    },
}

if LOCAL and (
    set(ALLOWED_HOSTS) - {"localhost", "127.0.0.1", "[::1]"} or BIND not in ("localhost", "127.0.0.1", "::1")
):
    raise ImproperlyConfigured(
        "RLMWEB_LOCAL=1 signs everybody in as the owner: it goes with 127.0.0.1 only, not with RLMWEB_HOSTS or RLMWEB_BIND"
    )
if DEBUG and HTTPS:
    warnings.warn("RLMWEB_DEBUG=1 shows settings to whoever causes an error: not for a public instance", stacklevel=1)
