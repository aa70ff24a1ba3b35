"""A newcomer in a real browser: sign up, ask, share, and what is kept when something goes wrong."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from django.core.cache import cache
from playwright.sync_api import Browser, Page, expect

from analyses.models import Run, Status
from tests.browser import chromium
from tests.workspaces.cast import PASSWORD, Cast, make_cast, make_corpus, make_plain_run
from tests.workspaces.oidc import provider
from workspaces.models import ModelEndpoint

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]


@pytest.fixture(scope="module", autouse=True)
def browser() -> Iterator[Browser]:
    with pytest.MonkeyPatch.context() as patch:
        # Playwright keeps an event loop in this thread; rows are read and written here all the same, in order.
        patch.setenv("DJANGO_ALLOW_ASYNC_UNSAFE", "1")
        with chromium() as browser:
            yield browser


@pytest.fixture
def cast(transactional_db: None) -> Cast:
    cache.clear()
    return make_cast()


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    context = browser.new_context(viewport={"width": 1180, "height": 800})
    page = context.new_page()
    complaints: list[str] = []
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
    yield page
    context.close()
    # Refusals are meant; the live server of these tests speaks no WebSocket, which hx-ws reports as an Event.
    meant = ("responded with a status of 4", "WebSocket", "[object Event]")
    assert [each for each in complaints if not any(words in each for words in meant)] == []


def sign_in(page: Page, site: str, email: str) -> None:
    page.goto(f"{site}/accounts/login/")
    page.get_by_label("E-mail").fill(email)
    page.get_by_label("Password").fill(PASSWORD)
    page.locator("main").get_by_role("button", name="Sign in", exact=True).click()
    expect(page.get_by_role("heading", name="Ask", exact=True)).to_be_attached()


def test_a_newcomer_signs_up_and_lands_on_the_ask_page(page: Page, live_server: Any) -> None:
    cache.clear()
    page.goto(f"{live_server.url}/accounts/signup/")
    page.get_by_label("E-mail").fill("nell@example.com")
    page.get_by_label("Password").fill("short")
    page.get_by_role("button", name="Sign up").click()
    expect(page.get_by_text("at least 8 characters").first).to_be_visible()
    expect(page.get_by_label("E-mail")).to_have_value("nell@example.com")
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Sign up").click()
    expect(page.get_by_label("Question")).to_be_focused()
    expect(page.get_by_role("heading", name="Bring your own texts")).to_be_visible()
    page.get_by_role("button", name="Workspace: nell’s workspace").click()
    expect(page.get_by_role("link", name="Workspace settings")).to_be_visible()
    page.keyboard.press("Escape")
    page.get_by_role("button", name="Your account").click()
    page.get_by_role("button", name="Sign out").click()
    expect(page.get_by_role("heading", name="Sign in")).to_be_visible()


def test_asking_by_keyboard_and_with_limits(page: Page, live_server: Any, cast: Cast) -> None:
    make_corpus(cast.workspace)
    sign_in(page, live_server.url, "ed@example.com")
    page.get_by_text("Limits: $2.00").click()
    page.get_by_label("Depth").fill("1")
    expect(page.locator("#limits-short")).to_have_text("$2.00, 10 minutes, depth 1, 500 calls")
    page.get_by_label("Question").fill("Who saw the light?")
    page.get_by_label("Question").press("Control+Enter")
    page.wait_for_url("**/r/**")
    page.goto(f"{live_server.url}{cast.url('runs/')}")
    expect(page.get_by_role("link", name="Who saw the light?")).to_be_visible()
    page.goto(f"{live_server.url}{cast.url()}")
    expect(page.get_by_label("Question")).to_have_value("")  # the draft went with its run


def test_what_was_typed_outlives_a_mistake_and_a_closed_session(page: Page, live_server: Any, cast: Cast) -> None:
    sign_in(page, live_server.url, "ed@example.com")
    page.get_by_text("Limits: $2.00").click()
    page.get_by_label("Calls", exact=True).fill("many")
    page.get_by_label("Question").fill("A long question")
    page.get_by_role("button", name="Ask").click()
    expect(page.get_by_text("“many” is not a number.")).to_be_visible()  # the fold stands open
    expect(page.get_by_label("Question")).to_have_value("A long question")
    page.context.clear_cookies()
    page.get_by_role("button", name="Ask").click()
    expect(page.get_by_role("heading", name="This page was too old")).to_be_visible()
    sign_in(page, live_server.url, "ed@example.com")
    expect(page.get_by_label("Question")).to_have_value("A long question")


def test_the_list_notices_by_itself_that_a_run_has_ended(page: Page, live_server: Any, cast: Cast) -> None:
    run = make_plain_run(cast.workspace, status=Status.RUNNING)
    sign_in(page, live_server.url, "vera@example.com")
    row = page.locator(f"#run-{run.key}")
    expect(row).to_contain_text("running")
    page.get_by_role("link", name="Who saw the light?").focus()
    Run.objects.filter(pk=run.pk).update(status=Status.DONE)
    expect(row).to_contain_text("done", timeout=8000)
    expect(page.get_by_role("link", name="Who saw the light?")).to_be_focused()  # focus is kept through the swap


def test_a_person_is_invited_joins_is_promoted_and_removed(
    page: Page, live_server: Any, cast: Cast, browser: Browser
) -> None:
    sign_in(page, live_server.url, "alice@example.com")
    page.get_by_role("button", name="Workspace: Harbour Desk").click()
    page.get_by_role("link", name="Workspace settings").click()
    page.get_by_label("Role", exact=True).select_option("viewer")
    page.get_by_role("button", name="Make a link").click()
    link = page.get_by_role("textbox", name="Invitation link 1").input_value()
    theirs = browser.new_context()
    nell = theirs.new_page()
    nell.goto(link)
    nell.locator("main").get_by_role("link", name="Sign up").click()
    nell.get_by_label("E-mail").fill("nell@example.com")
    nell.get_by_label("Password").fill(PASSWORD)
    nell.get_by_role("button", name="Sign up").click()
    nell.get_by_role("button", name="Join").click()
    expect(nell.get_by_text("You are in Harbour Desk, as viewer.")).to_be_visible()
    expect(nell.get_by_text("You are a viewer of this workspace")).to_be_visible()
    page.reload()
    expect(page.get_by_role("textbox", name="Invitation link 1")).to_have_count(0)  # used
    row = page.get_by_role("row").filter(has_text="nell@example.com")
    row.get_by_label("Role of nell").select_option("editor")
    row.get_by_role("button", name="Change").click()
    expect(page.get_by_text("nell is editor now.")).to_be_visible()
    nell.reload()
    expect(nell.get_by_label("Question")).to_be_enabled()
    row.get_by_role("button", name="Remove nell").first.click()
    page.get_by_role("button", name="Remove nell", exact=True).last.click()
    expect(page.get_by_text("nell is not a member any more.")).to_be_visible()
    nell.reload()
    expect(nell.get_by_role("heading", name="There is nothing here")).to_be_visible()
    theirs.close()


def test_a_passkey_is_added_and_signs_in_without_a_password(page: Page, live_server: Any, cast: Cast) -> None:
    site = live_server.url.replace("127.0.0.1", "localhost")  # a passkey belongs to a name, never to a number
    devtools = page.context.new_cdp_session(page)
    devtools.send("WebAuthn.enable")
    authenticator = {
        "protocol": "ctap2",
        "transport": "internal",
        "hasResidentKey": True,
        "hasUserVerification": True,
        "isUserVerified": True,
        "automaticPresenceSimulation": True,
    }
    devtools.send("WebAuthn.addVirtualAuthenticator", {"options": authenticator})
    sign_in(page, site, "ed@example.com")
    page.get_by_role("button", name="Your account").click()
    page.get_by_role("link", name="Second factor and passkeys").click()
    page.get_by_role("link", name="Add one").click()
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Go on").click()
    page.get_by_label("Name").fill("My laptop")
    page.get_by_label("Passwordless").check()
    page.get_by_role("button", name="Add").click()
    expect(page.get_by_role("heading", name="Recovery Codes")).to_be_visible()
    page.get_by_role("button", name="Your account").click()
    page.get_by_role("button", name="Sign out").click()
    page.get_by_role("button", name="Sign in with a passkey").click()
    expect(page.get_by_label("Question")).to_be_visible()


def test_sharing_in_place_and_revoking(page: Page, live_server: Any, cast: Cast, browser: Browser) -> None:
    run = make_plain_run(cast.workspace, status=Status.DONE)
    sign_in(page, live_server.url, "ed@example.com")
    page.goto(live_server.url + run.get_absolute_url())
    page.get_by_role("button", name="Share").click()
    page.get_by_role("button", name="Make a link").click()
    link = page.get_by_role("textbox", name="Link 1").input_value()
    assert link.startswith(f"{live_server.url}/s/")
    expect(page.locator("#share")).to_be_visible()  # the popover stays open through the swap
    stranger = browser.new_context().new_page()
    stranger.goto(link)
    expect(stranger.get_by_role("heading", name="Who saw the light?")).to_be_visible()
    page.get_by_role("button", name="Revoke link 1").click()
    expect(page.get_by_role("textbox", name="Link 1")).to_have_count(0)
    stranger.reload()
    expect(stranger.get_by_role("heading", name="There is nothing here")).to_be_visible()
    stranger.context.close()


def test_the_key_of_an_endpoint_goes_in_and_never_comes_out(page: Page, live_server: Any, cast: Cast) -> None:
    key = "sk-live-0123456789abcdef"
    answers: list[str] = []

    def keep(response: Any) -> None:
        if response.request.resource_type in ("document", "fetch", "xhr") and response.status < 300:
            answers.append(response.text())

    sign_in(page, live_server.url, "adam@example.com")
    page.get_by_role("button", name="Workspace: Harbour Desk").click()
    page.get_by_role("link", name="Model endpoints").click()
    page.get_by_role("link", name="Add an endpoint").click()
    page.get_by_label("Name").fill("Desk endpoint")
    page.get_by_label("Base URL").fill("https://models.example/v1")
    expect(page.get_by_label("API key", exact=True)).to_have_attribute("type", "password")
    page.get_by_label("API key", exact=True).fill(key)
    page.get_by_role("button", name="Keep").click()
    expect(page.get_by_text("Give a root model").or_(page.get_by_text("required")).first).to_be_visible()
    assert key not in page.content()  # a mistake elsewhere does not send it back either
    page.get_by_label("API key", exact=True).fill(key)
    page.get_by_label("Root model").fill("atlas-large")
    page.on("response", keep)
    page.get_by_role("button", name="Keep").click()
    expect(page.get_by_role("heading", name="Desk endpoint")).to_be_visible()
    assert ModelEndpoint.objects.get().key == key
    assert key not in page.content()
    page.goto(f"{live_server.url}{cast.url(f'endpoints/{ModelEndpoint.objects.get().pk}/')}")
    expect(page.get_by_label("Name")).to_have_value("Desk endpoint")
    assert key not in page.content()
    values = page.locator("input").evaluate_all("inputs => inputs.map(input => input.value)")
    assert key not in values
    page.get_by_role("button", name="Keep").click()  # nothing typed: the key stays
    expect(page.get_by_role("heading", name="Desk endpoint")).to_be_visible()
    assert ModelEndpoint.objects.get().key == key
    page.goto(f"{live_server.url}{cast.url()}")
    expect(page.get_by_label("Question")).to_be_visible()
    assert answers
    assert not [answer for answer in answers if key in answer]


def test_the_button_to_a_provider_leads_there_and_back(page: Page, live_server: Any, settings: Any) -> None:
    cache.clear()
    with provider() as there:
        settings.OIDC_ISSUER, settings.OIDC_NAME = there.issuer, "Harbour ID"
        settings.SOCIALACCOUNT_PROVIDERS = {"openid_connect": {"OAUTH_PKCE_ENABLED": True, "APPS": [there.app]}}
        directives = settings.CONTENT_SECURITY_POLICY["DIRECTIVES"]
        named = directives | {"form-action": [*directives["form-action"], there.issuer]}
        settings.CONTENT_SECURITY_POLICY = {"DIRECTIVES": named}
        page.goto(f"{live_server.url}/accounts/login/")
        page.get_by_role("button", name="Sign in with Harbour ID").click()
        expect(page.get_by_label("Question")).to_be_visible()
        page.get_by_role("button", name="Your account").click()
        page.get_by_role("link", name="Sign-in with Harbour ID").click()
        expect(page.get_by_role("heading", name="Sign-in with Harbour ID")).to_be_visible()
        expect(page.get_by_role("button", name="Disconnect")).to_be_visible()
        assert there.refused == []
