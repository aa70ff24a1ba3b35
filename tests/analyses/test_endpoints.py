"""Model endpoints of a workspace: who may set them, where their key never appears, and where they may not lead."""

from __future__ import annotations

import html
import logging
import socket
import socketserver
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID
from django.core.cache import cache
from django.core.management import call_command
from django.db import connection
from django.urls import reverse

from analyses import actions, endpoints
from analyses import connection as connecting
from analyses.models import Run
from analyses.worker import Worker
from tests.scripted.fixture import Scripted
from tests.workspaces.cast import Cast, make_cast
from workspaces.models import ModelEndpoint, User
from workspaces.secrets import Unreadable, seal, unseal

KEY = "sk-live-0123456789abcdef"
GIVEN = {
    "name": "Desk endpoint",
    "base_url": "https://models.example/v1/",
    "key": KEY,
    "root_model": "atlas-large",
    "child_model": "atlas-mini",
    "dialect": "async",
    "window": "128000",
    "input_price": "",
    "output_price": "",
}


@pytest.fixture
def cast(db: None) -> Cast:
    cache.clear()
    return make_cast()


def make_endpoint(cast: Cast, **fields: Any) -> ModelEndpoint:
    start = {"name": "Desk endpoint", "base_url": "https://models.example/v1", "root_model": "atlas-large"}
    row = ModelEndpoint(workspace=cast.workspace, **(start | fields))
    row.set_key(KEY)
    row.save()
    return row


def text(response: Any) -> str:
    return html.unescape(response.content.decode())


def keep(cast: Cast, row: ModelEndpoint | None = None, who: Any = None, **changes: str) -> Any:
    path = cast.url(f"endpoints/{row.pk}/" if row else "endpoints/new")
    return cast.client(who or cast.adam).post(path, GIVEN | changes)


def test_an_endpoint_is_kept_and_offered_first(cast: Cast) -> None:
    assert keep(cast).headers["Location"] == cast.url("endpoints/")
    row = ModelEndpoint.objects.get()
    assert (row.key, row.base_url, row.created_by) == (KEY, "https://models.example/v1", cast.adam)
    assert [each.name for each in endpoints.available(cast.workspace)] == ["Desk endpoint", "offline"]
    assert [each.name for each in endpoints.available(cast.elsewhere)] == ["offline"]
    cast.client(cast.ed).post(cast.url(), {"question": "Who?"})
    run = Run.objects.get()
    assert (run.endpoint, run.root_model, run.child_model) == ("Desk endpoint", "atlas-large", "atlas-mini")


def test_the_key_is_nowhere_but_encrypted(cast: Cast, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    row = make_endpoint(cast)
    with connection.cursor() as cursor:
        cursor.execute("SELECT * FROM workspaces_modelendpoint")
        assert KEY not in str(cursor.fetchall())
    for path in ("", "endpoints/", f"endpoints/{row.pk}/", "settings/"):
        page = text(cast.client(cast.alice).get(cast.url(path)))
        assert KEY not in page
        assert row.sealed_key not in page
    assert KEY not in text(keep(cast, row, name="offline"))  # a refused form does not show it either
    assert KEY not in repr(endpoints.available(cast.workspace))
    assert KEY not in caplog.text


def test_an_empty_key_keeps_the_old_one_and_forgetting_is_said(cast: Cast) -> None:
    row = make_endpoint(cast)
    keep(cast, row, key="", root_model="atlas-huge")
    row.refresh_from_db()
    assert (row.key, row.root_model) == (KEY, "atlas-huge")
    keep(cast, row, key="", drop_key="on")
    row.refresh_from_db()
    assert row.key == ""


def test_a_changed_address_does_not_take_the_key_along(cast: Cast) -> None:
    """Whoever may change the address, but was never told the key, must not have it sent to themselves."""
    row = make_endpoint(cast)
    for url in ("https://evil.example/v1", "http://models.example/v1", "https://models.example:444/v1"):
        response = keep(cast, row, key="", base_url=url)
        assert response.status_code == 422
        assert "give the key again. The one kept is for models.example" in text(response)
    keep(cast, row, key="", base_url="https://models.example/v2")  # the same place
    row.refresh_from_db()
    assert (row.base_url, row.key) == ("https://models.example/v2", KEY)
    keep(cast, row, key="sk-new", base_url="https://other.example/v1")
    row.refresh_from_db()
    assert row.key == "sk-new"


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"name": "Offline"}, "is the name of an endpoint of this instance"),
        ({"name": "desk  ENDPOINT"}, "There is an endpoint “desk ENDPOINT” in this workspace already."),
        ({"base_url": "ftp://models.example"}, "starts with https:// or http://"),
        ({"base_url": "models.example/v1"}, "starts with https:// or http://"),
        ({"base_url": "https://me:secret@models.example/v1"}, "does not belong into the address"),
        ({"base_url": "https://models.example/v1?key=1"}, "without what follows a ? or #"),
        ({"base_url": "http://[::1"}, "That is no address."),
        ({"key": "two words"}, "without blanks or line breaks"),
        ({"window": "10"}, "from 2,000 to 100,000,000"),
        ({"input_price": "-1"}, "Give a price from 0"),
        ({"output_price": "nan"}, "Enter a number."),
        ({"root_model": ""}, "This field is required."),
    ],
)
def test_what_is_wrong_with_an_endpoint_is_said(cast: Cast, given: dict[str, str], said: str) -> None:
    make_endpoint(cast)
    response = keep(cast, **({"name": "Second"} | given))
    assert response.status_code == 422
    assert said in text(response)
    assert ModelEndpoint.objects.count() == 1


@pytest.mark.parametrize(("who", "status"), [("alice", 200), ("adam", 200), ("ed", 403), ("vera", 403), ("oscar", 404)])
def test_who_may_change_endpoints(cast: Cast, who: str, status: int) -> None:
    row = make_endpoint(cast)
    client = cast.client(getattr(cast, who))
    assert client.get(cast.url(f"endpoints/{row.pk}/")).status_code == status
    assert client.get(cast.url("endpoints/new")).status_code == status
    for verb in ("test", "remove"):
        response = client.post(cast.url(f"endpoints/{row.pk}/{verb}"))
        assert (response.status_code in (200, 302)) == (status == 200)
    assert ModelEndpoint.objects.exists() == (status != 200)
    theirs = ModelEndpoint.objects.create(
        workspace=cast.elsewhere, name="x", base_url="https://x.example", root_model="m"
    )
    assert cast.client(cast.alice).get(cast.url(f"endpoints/{theirs.pk}/")).status_code == 404


def test_the_operators_pages_show_no_key(cast: Cast) -> None:
    row = make_endpoint(cast)
    operator = cast.client(User.objects.create_superuser("op@example.com", "x"))
    for page in ("changelist", "change"):
        path = reverse(f"admin:workspaces_modelendpoint_{page}", args=[row.pk] if page == "change" else [])
        shown = text(operator.get(path))
        assert "models.example" in shown
        assert KEY not in shown
        assert row.sealed_key not in shown


# — encryption —


def test_secrets_are_rotated(cast: Cast, settings: Any) -> None:
    settings.SECRETS = ["old" * 20]
    row = make_endpoint(cast)
    settings.SECRETS = ["new" * 20, "old" * 20]
    assert unseal(row.sealed_key) == KEY
    out = StringIO()
    call_command("rotate_secrets", stdout=out)
    assert "1 encrypted anew." in out.getvalue()
    settings.SECRETS = ["new" * 20]
    row.refresh_from_db()
    assert row.key == KEY


def test_a_key_that_cannot_be_read_any_more_is_told_and_breaks_nothing(cast: Cast, settings: Any) -> None:
    row = make_endpoint(cast)
    settings.SECRETS = ["another" * 10]
    with pytest.raises(Unreadable):
        _ = row.key
    client = cast.client(cast.alice)
    assert "cannot be read any more" in text(client.get(cast.url("endpoints/")))
    assert "atlas-large" not in text(client.get(cast.url()))
    assert "must be given again" in text(client.post(cast.url(f"endpoints/{row.pk}/test"), follow=True))
    err = StringIO()
    call_command("rotate_secrets", stdout=StringIO(), stderr=err)
    assert "cannot be read" in err.getvalue()
    assert KEY not in err.getvalue()


def test_the_same_key_twice_is_not_the_same_text() -> None:
    assert seal(KEY) != seal(KEY)
    assert seal("") == unseal("") == ""


# — connections —


def tried(cast: Cast, row: ModelEndpoint, who: Any = None) -> str:
    response = cast.client(who or cast.adam).post(cast.url(f"endpoints/{row.pk}/test"), headers={"HX-Request": "true"})
    assert response.status_code == 200
    return text(response)


def test_testing_a_connection_says_that_it_stands(cast: Cast, settings: Any, scripted: Callable[..., Scripted]) -> None:
    settings.ENDPOINT_HOSTS = ["127.0.0.1"]
    server = scripted({"replies": ["ready"]})
    said = tried(cast, make_endpoint(cast, base_url=server.base_url, child_model="atlas-mini"))
    assert said.count("It answers, in") == 2
    assert "<b>atlas-large</b>" in said
    assert "<b>atlas-mini</b>" in said


@pytest.mark.parametrize(
    ("reply", "said"),
    [
        ({"status": 401, "error": "bad key"}, "Check the key."),
        ({"status": 403, "error": "no"}, "does not allow this request"),
        ({"status": 404, "error": "The model atlas-large does not exist"}, "The model atlas-large does not exist"),
        ({"status": 404, "error": "no such model"}, "Check the base URL"),
        ({"status": 400, "error": "unknown model"}, "Check the model’s name."),
        ({"status": 402, "error": "insufficient_quota"}, "nothing left to spend"),
        ({"status": 429, "error": "slow down"}, "(429)"),
        ({"status": 503, "error": "loading"}, "had an error (503)"),
    ],
)
def test_testing_a_connection_says_what_the_endpoint_refuses(
    cast: Cast, settings: Any, scripted: Callable[..., Scripted], reply: dict[str, Any], said: str
) -> None:
    settings.ENDPOINT_HOSTS = ["127.0.0.1"]
    page = tried(cast, make_endpoint(cast, base_url=scripted({"replies": [reply], "default": reply}).base_url))
    assert said in page
    assert 'data-tone="failed"' in page
    assert KEY not in page


@contextmanager
def answering(answer: bytes | None) -> Iterator[int]:
    """A port where every request gets these bytes; None: it is heard, and nothing is said."""

    class Handler(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            self.request.settimeout(5)
            with suppress(OSError):
                self.request.recv(65_536)
                if answer is None:
                    over.wait(30)
                else:
                    self.request.sendall(answer)

    over = threading.Event()
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        thread.start()
        try:
            yield server.server_address[1]
        finally:
            over.set()
            server.shutdown()
            thread.join(5)


def http(status: str, body: str = "", **headers: str) -> bytes:
    lines = [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join([f"HTTP/1.1 {status}", *lines, f"Content-Length: {len(body)}", "", body]).encode()


@pytest.mark.parametrize(
    ("scheme", "answer", "said"),
    [
        ("http", http("200 OK", "<html>hello", Content_Type="text/html"), "answered with a web page"),
        ("http", http("200 OK", "hello", Content_Type="application/json"), "Check the base URL"),
        ("http", http("200 OK", "[1]", Content_Type="application/json"), "Check the base URL"),
        ("http", http("200 OK", "hello", Content_Type="text/plain"), "answered with text/plain"),
        ("http", http("307 Gone", Location="http://10.0.0.7/v1"), "10.0.0.7 is an address of this host"),
        ("http", http("307 Gone", Location="http://[::1]/v1"), "an address of this host's own network"),
        ("http", b"SSH-2.0-OpenSSH_9\r\n", "what answers there may be no HTTP server"),
        ("http", b"", "what answers there may be no HTTP server"),
        ("https", b"HTTP/1.1 400 Bad Request\r\n\r\n", "its address starts with http://"),
        ("http", None, "did not finish its reply within"),
    ],
)
def test_testing_a_connection_says_what_answers_there(
    cast: Cast, settings: Any, monkeypatch: pytest.MonkeyPatch, scheme: str, answer: bytes | None, said: str
) -> None:
    settings.ENDPOINT_HOSTS = ["127.0.0.1"]
    if answer is None:
        monkeypatch.setattr(connecting, "SECONDS", 0.5)
    with answering(answer) as port:
        page = tried(cast, make_endpoint(cast, base_url=f"{scheme}://127.0.0.1:{port}/v1"))
    assert said in page
    assert 'data-tone="failed"' in page
    assert KEY not in page


def test_testing_a_connection_says_that_nothing_is_there(cast: Cast, settings: Any) -> None:
    settings.ENDPOINT_HOSTS = ["127.0.0.1", "models.invalid"]
    assert "Nothing answers at this address" in tried(cast, make_endpoint(cast, base_url="http://127.0.0.1:9/v1"))
    said = tried(cast, make_endpoint(cast, name="Lost", base_url="https://models.invalid/v1"))
    assert "The name models.invalid could not be resolved" in said


def test_testing_a_connection_says_that_a_certificate_is_not_trusted(cast: Cast, settings: Any, tmp_path: Path) -> None:
    settings.ENDPOINT_HOSTS = ["127.0.0.1"]
    with tls_server(tmp_path) as port:
        said = tried(cast, make_endpoint(cast, base_url=f"https://127.0.0.1:{port}/v1"))
    assert "Its certificate is not one that can be trusted: self-signed certificate" in said


@contextmanager
def tls_server(folder: Path) -> Iterator[int]:
    """A server with a certificate that nobody else has signed."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.now(tz=UTC)
    certificate = (
        x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key()).serial_number(1)
        .not_valid_before(now - timedelta(days=1)).not_valid_after(now + timedelta(days=1)).sign(key, hashes.SHA256())
    )  # fmt: skip
    pem = folder / "server.pem"
    pem.write_bytes(
        key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()) + certificate.public_bytes(Encoding.PEM)
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pem)
    with socket.create_server(("127.0.0.1", 0)) as plain:

        def serve() -> None:
            with suppress(OSError):  # the handshake fails, which is what is wanted
                while True:
                    connection, _ = plain.accept()
                    connection.settimeout(5)
                    with suppress(OSError), context.wrap_socket(connection, server_side=True):
                        pass
                    connection.close()

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield plain.getsockname()[1]
        plain.shutdown(socket.SHUT_RDWR)
        thread.join(5)


def test_an_address_in_the_hosts_own_network_is_refused(cast: Cast, scripted: Callable[..., Scripted]) -> None:
    server = scripted({"replies": ["ready"]})
    said = tried(cast, make_endpoint(cast, base_url=server.base_url))
    assert "127.0.0.1 is an address of this host's own network." in said
    assert server.log() == []


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1:11434/v1", "http://localhost/v1", "http://10.1.2.3/v1", "http://192.168.0.1", "http://[::1]/v1",
        "http://169.254.169.254/latest", "http://0.0.0.0/v1", "http://[::ffff:10.0.0.1]/", "http://2130706433/",
        "http://0x7f.1/", "http://100.64.0.1/v1", "http://[fd00::1]/v1",
    ],
)  # fmt: skip
def test_such_an_address_is_refused_when_it_is_kept(cast: Cast, settings: Any, url: str) -> None:
    response = keep(cast, base_url=url)
    assert response.status_code == 422
    assert "this host's own network" in text(response)
    assert not ModelEndpoint.objects.exists()


def test_a_host_that_the_operator_allows_is_kept(cast: Cast, settings: Any) -> None:
    settings.ENDPOINT_HOSTS = ["127.0.0.1"]
    assert keep(cast, base_url="http://127.0.0.1:11434/v1").status_code == 302


def test_tests_are_counted(cast: Cast) -> None:
    row = make_endpoint(cast, base_url="http://127.0.0.1:9/v1")
    for _ in range(10):
        tried(cast, row)
    assert "Tested too often just now." in tried(cast, row)


@pytest.fixture
def worker() -> Iterator[Worker]:
    one = Worker(serving=False)
    one.start()
    yield one
    one.close()


def run_on(worker: Worker, cast: Cast, question: str = "Go.") -> Run:
    run = actions.start_run(cast.workspace, cast.ed, question=question, endpoint="Desk endpoint", wake=False)
    done = worker.take(run.pk)
    assert done is not None
    done.result(timeout=60)
    run.refresh_from_db()
    return run


@pytest.mark.firejail
@pytest.mark.django_db(transaction=True)
def test_a_run_uses_its_workspaces_endpoint(
    transactional_db: None, settings: Any, scripted: Callable[..., Scripted], worker: Worker
) -> None:
    settings.ENDPOINT_HOSTS = ["127.0.0.1"]
    cast = make_cast()
    server = scripted({"replies": ["```repl\nFINAL(6 * 7)\n```"]})
    make_endpoint(cast, base_url=server.base_url)
    run = run_on(worker, cast)
    assert (run.status, run.answer_display) == ("done", 42), run.reason


@pytest.mark.firejail
@pytest.mark.django_db(transaction=True)
def test_a_run_does_not_reach_the_hosts_own_network(
    transactional_db: None, scripted: Callable[..., Scripted], worker: Worker
) -> None:
    cast = make_cast()
    server = scripted({"replies": ["```repl\nFINAL(6 * 7)\n```"]})
    make_endpoint(cast, base_url=server.base_url)
    run = run_on(worker, cast)
    assert run.status == "failed"
    assert "this host's own network" in run.reason
    assert server.log() == []


@pytest.mark.firejail
@pytest.mark.django_db(transaction=True)
def test_a_run_whose_endpoint_was_removed_says_so(transactional_db: None, worker: Worker) -> None:
    cast = make_cast()
    row = make_endpoint(cast)
    run = actions.start_run(cast.workspace, cast.ed, question="Go.", endpoint=row.name, wake=False)
    row.delete()
    done = worker.take(run.pk)
    assert done is not None
    done.result(timeout=60)
    run.refresh_from_db()
    assert run.status == "failed"
    assert "There is no model endpoint 'Desk endpoint'" in run.reason


@pytest.mark.parametrize(
    ("offer", "here", "elsewhere"), [(["all"], True, True), (["none"], False, False), (["its slug"], True, False)]
)
def test_the_instances_own_is_offered_to_all_to_some_or_to_none(
    cast: Cast, settings: Any, offer: list[str], here: bool, elsewhere: bool
) -> None:
    settings.OPENAI_API_KEY = KEY
    settings.ENDPOINT_OFFER = [word.replace("its slug", cast.workspace.slug) for word in offer]
    for workspace, offered, owner in ((cast.workspace, here, cast.alice), (cast.elsewhere, elsewhere, cast.oscar)):
        names = ["default", "offline"] if offered else ["offline"]
        assert [each.name for each in endpoints.available(workspace)] == names
        assert [each.name for each in endpoints.available(workspace, operator=True)] == ["default", "offline"]
        client, home = cast.client(owner), workspace.get_absolute_url()
        assert ("gpt-5" in text(client.get(f"{home}endpoints/"))) == offered
        assert ('value="default"' in text(client.get(home))) == offered
        if not offered:
            with pytest.raises(actions.RunRefused, match="no model endpoint 'default'"):
                actions.start_run(workspace, owner, question="Who?", endpoint="default")
            client.post(home, {"question": "Who?", "endpoint": "default"})
            assert not Run.objects.filter(workspace=workspace, endpoint="default").exists()
    assert [each.name for each in endpoints.available()] == ["default", "offline"]
