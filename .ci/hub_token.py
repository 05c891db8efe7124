"""A detector for access tokens of the Hugging Face Hub, for detect-secrets, which knows others."""

import re

from detect_secrets.plugins.base import RegexBasedDetector


class HubTokenDetector(RegexBasedDetector):
    """Finds user access tokens, which start with hf_."""

    secret_type = "Hugging Face Hub token"  # noqa: S105  # pragma: allowlist secret  # a name
    denylist = (re.compile(r"(?<![A-Za-z0-9])hf_[A-Za-z0-9]{20,}"),)
