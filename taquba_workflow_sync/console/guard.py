"""What keeps others out: headers that every answer has, and whether a form comes from a page of ours."""

from __future__ import annotations

import hmac
import secrets
from collections.abc import Mapping
from typing import Final

from taquba_workflow_sync.console.messages import Csrf, Fields, Response

#: Nothing but what this host serves, and no inline code: what a payload says can neither run nor load anything.
POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; form-action 'self';"
    " base-uri 'none'; frame-ancestors 'none'"
)
HEADERS: Final[Mapping[str, str]] = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}
#: The field in which a form brings the browser's own secret back.
CSRF_FIELD: Final = "csrf_token"


def new_secret() -> str:
    """Return what nobody can guess."""
    return secrets.token_urlsafe(32)


def is_same(given: str | None, expected: str) -> bool:
    """Compare secrets in a time that does not tell where they differ."""
    return given is not None and hmac.compare_digest(given.encode("utf-8", "replace"), expected.encode())


def derived(secret: str, purpose: str) -> str:
    """Return another secret that follows from one, for another purpose."""
    return hmac.new(secret.encode(), purpose.encode(), "sha256").hexdigest()


def csrf_of(secret: str) -> Csrf:
    """Return the field of forms for a browser that has this secret in a cookie."""
    return Csrf(CSRF_FIELD, derived(secret, "csrf"))


def guarded(response: Response) -> Response:
    """Return an answer with the headers that it has not set itself."""
    for name, value in HEADERS.items():
        response.headers.setdefault(name, value)
    return response


def why_forged(headers: Mapping[str, str], host: str, form: Fields, csrf: Csrf) -> str | None:
    """Return why a form is none that a page of ours has sent; None: it is.

    ``headers``: those of the request, by their names in lower case. The browser says where the form comes from
    (``Sec-Fetch-Site``; older ones ``Origin``), which no page can change; and the form brings a secret that no page of
    another origin can read.
    """
    site = headers.get("sec-fetch-site")
    origin = headers.get("origin")
    if site is not None:
        if site != "same-origin":
            return f"the form comes from another page (Sec-Fetch-Site: {site})"
    elif origin is not None and origin.partition("://")[2] != host:
        return "the form comes from another page (Origin)"
    if not is_same(form.get(csrf.field), csrf.token):
        return "the form has no valid token; load the page again and repeat it"
    return None
