"""Find tokens, keys and passwords in a text by the formats of their services."""

import functools
import re
from collections.abc import Iterator
from importlib import import_module
from typing import Any

_FORMS = tuple(
    (name, re.compile(form))
    for name, form in (
        ("a Hugging Face token", r"\bhf_[A-Za-z0-9]{20,}|\bapi_org_[A-Za-z0-9]{20,}"),
        ("a GitHub token", r"\bgh[pousr]_[A-Za-z0-9]{30,}|\bgithub_pat_\w{40,}"),
        ("a GitLab token", r"\bgl(?:pat|ptt|dt|rt|cbt)-[\w-]{20,}"),
        ("an API key", r"\bsk-[A-Za-z0-9_-]{20,}|\bxox[abeprs]-[\w-]{20,}|\bAIza[\w-]{35}"),
        ("an AWS key", r"\b(?:AKIA|ASIA)[A-Z0-9]{16}\b"),
        (
            "a key",
            r"\b(?:r8|gsk|npm|dckr_pat|dop_v1|shpat|lin_api|[spr]k_(?:live|test)|figd|whsec|ntn)_[A-Za-z0-9_-]{20,}"
            r"|\bya29\.[\w-]{20,}|\bGOCSPX-[\w-]{20,}",
        ),
        (
            "a secret",
            r"(?i:\b\w{0,40}(?:secret|token|api_?key|access_?key)\w{0,20})[\"']?\s{0,2}[:=]\s{0,2}[\"']?"
            r"(?=[\w/+.-]{0,40}\d)[\w/+.-]{16,}|\bsig=[\w%+/.-]{30,}",
        ),
        ("a login", r"(?i:\bbasic)\s(?=[A-Za-z+/]{0,80}\d)[A-Za-z0-9+/]{16,}"),
        ("a Weights & Biases key", r"(?i:wandb|api_key)\W{1,4}[0-9a-f]{40}\b"),
        ("a private key", r"-----BEGIN [A-Z ]{0,30}PRIVATE KEY(?: BLOCK)?-----"),
        ("a JSON web token", r"\beyJ[\w-]{15,2000}\.eyJ[\w-]{15,2000}\."),
        ("a password in an address", r"\b[a-z][a-z0-9+]{1,15}://[^\s/:@]{0,255}:[^\s/@]{1,255}@"),
        ("a bearer token", r"(?i:\bbearer)\s[A-Za-z0-9._~+/-]{20,}"),
        (
            "an access key in an address",
            r"[?&](?:sig|X-Amz-Signature|token|access_token|key)=[\w%.-]{16,}",
        ),
        (
            "a password",
            r"(?i:\b(?:password|passwort|kennwort|passwd|pwd|secret|пароль|құпиясөз)\b)[\"']?"
            r"(?:\s{0,2}[:=]|\s(?:is|ist|-))\s{0,2}[\"']?[^\s\"',]{4,255}"
            r"|(?i:\bpass)\s?[:=]\s?[^\s\"',]{6,255}",
        ),
    )
)  # fmt: skip
_PLUGINS = (
    ("artifactory", "ArtifactoryDetector", "an Artifactory key"),
    ("azure_storage_key", "AzureStorageKeyDetector", "an Azure storage key"),
    ("cloudant", "CloudantDetector", "a Cloudant key"),
    ("discord", "DiscordBotTokenDetector", "a Discord token"),
    ("ibm_cloud_iam", "IbmCloudIamDetector", "an IBM Cloud key"),
    ("mailchimp", "MailchimpDetector", "a Mailchimp key"),
    ("npm", "NpmDetector", "an npm token"),
    ("pypi_token", "PypiTokenDetector", "a PyPI token"),
    ("sendgrid", "SendGridDetector", "a SendGrid key"),
    ("slack", "SlackDetector", "a Slack token"),
    ("square_oauth", "SquareOAuthDetector", "a Square token"),
    ("stripe", "StripeDetector", "a Stripe key"),
    ("telegram_token", "TelegramBotTokenDetector", "a Telegram token"),
    ("twilio", "TwilioKeyDetector", "a Twilio key"),
)
"""Modules and classes of `detect_secrets.plugins`, without those that `_FORMS` covers."""

_PIECE, _OVERLAP = 4000, 500
"""In characters. No credential is longer than the overlap of two pieces."""


def find_credentials(text: str) -> Iterator[str]:
    """Yield the kinds of credentials in `text`, each once, but never a credential itself."""
    found = dict.fromkeys(name for name, form in _FORMS if form.search(text))
    # Some expressions of the library take quadratic time, so they get a long text in pieces.
    for start in range(0, len(text), _PIECE - _OVERLAP):
        piece = text[start : start + _PIECE]
        for name, plugin in _load_plugins():
            if name not in found and any(True for _ in plugin.analyze_string(piece)):
                found[name] = None
    yield from found


@functools.cache
def _load_plugins() -> tuple[tuple[str, Any], ...]:
    return tuple(
        (name, getattr(import_module(f"detect_secrets.plugins.{module}"), kind)())
        for module, kind, name in _PLUGINS
    )
