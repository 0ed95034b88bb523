"""Pending changes: review, apply, discard, settle what clashes; the count-down; the history."""

from __future__ import annotations

from functools import partial
from typing import Any

from flask import Blueprint, Response, jsonify, redirect, request, url_for
from werkzeug.exceptions import NotFound
from werkzeug.wrappers import Response as BaseResponse

from appliance.config.effects import CONFIRM_SECONDS, MAX_CONFIRM_SECONDS, MIN_CONFIRM_SECONDS
from appliance.control.client import ControlError
from webui.desk import Desk, done, refused
from webui.leaving import Leavings, addresses, moves
from webui.security import author
from webui.views.first import after_commit
from webui.words import _, n_

MAX_COMMENT = 500
REVISIONS_SHOWN = 30


def code_of(error: ControlError) -> str:
    """The last part of Varlink's name of the error."""
    return error.code.rpartition(".")[2]


def _seconds(typed: str) -> int | None:
    """How long a commit waits to be kept; None: as long as the box thinks fit."""
    if not typed.isdecimal() or len(typed) > 5:
        return None
    return min(max(int(typed), MIN_CONFIRM_SECONDS), MAX_CONFIRM_SECONDS)


def _told(error: ControlError) -> str:
    return f"{error.message} {error.hint}".strip()


def blueprint(desk: Desk, leavings: Leavings) -> Blueprint:
    """What is done with the candidate as a whole."""
    pages = Blueprint("changes", __name__)
    backend = desk.backend

    def review_page(error: str = "", comment: str = "", conflicts: object = None) -> str:
        candidate = desk.candidate()
        return desk.page(
            "review.html", area="changes", error=error, comment=comment, seconds=CONFIRM_SECONDS,
            conflicts=candidate["conflicts"] if conflicts is None else conflicts,
        )  # fmt: skip

    @pages.get("/changes")
    def review() -> str:
        return review_page()

    @pages.get("/changes/file")
    def file() -> str:
        return desk.page("file.html", area="", text=backend.candidate_text(author()), number=None)

    @pages.post("/changes")
    def apply() -> BaseResponse | tuple[str, int]:
        comment = request.form.get("comment", "").strip()[:MAX_COMMENT]
        seen = request.form.get("version", "")
        candidate = desk.candidate()
        seconds = _seconds(request.form.get("seconds", ""))
        if seen != str(candidate["version"]):
            error = _("The changes are others than those that you reviewed. These are the ones of now.")
            return review_page(error, comment), 409
        if candidate["needs_confirmation"] and moves(desk.active(), candidate["config"]):
            leavings.start(
                author(),
                *addresses(desk.active(), candidate["config"], desk.status()["lan_prefix"]),
                partial(
                    backend.commit, author(), comment, candidate["based_on"], candidate["version"], seconds
                ),
            )
            return redirect(url_for("changes.wait"), 303)
        try:
            made = backend.commit(author(), comment, candidate["based_on"], candidate["version"], seconds)
        except ControlError as failed:
            if failed.code == "unavailable":
                raise
            return review_page(_told(failed), comment, failed.details.get("conflicts")), 409
        desk.forget_status()
        if made["pending"]:
            return redirect(url_for("changes.wait"), 303)
        done(_("Applied as revision %(number)s.", number=made["revision"]))
        return redirect(after_commit(), 303)

    @pages.post("/changes/discard")
    def discard() -> BaseResponse:
        count = len(desk.candidate()["changes"])
        backend.discard_candidate(author())
        done(n_("%(num)s change discarded.", "%(num)s changes discarded.", count))
        return redirect(url_for("changes.review"), 303)

    @pages.post("/changes/merge")
    def merge() -> BaseResponse:
        """Each clash has a choice: keep mine, or take theirs."""
        paths = [clash["path"] for clash in desk.candidate()["conflicts"]]
        mine = [path for at, path in enumerate(paths) if request.form.get(f"keep.{at}") == "mine"]
        if request.form.getlist("path") != paths:
            refused(_("Meanwhile the box was changed again. Look at what clashes now."))
        else:
            backend.merge_candidate(author(), mine)
            done(_("Merged with what is in force now."))
        return redirect(url_for("changes.review"), 303)

    @pages.get("/changes/confirm")
    def wait() -> BaseResponse | str:
        desk.forget_status()
        leaving = leavings.of(author())
        if leaving is not None:
            return desk.page("leaving.html", area="changes", leaving=leaving, pending=None)
        failed = leavings.outcome(author())
        if failed:
            refused(failed)
            return redirect(url_for("changes.review"), 303)
        if backend.pending() is None:
            return redirect(after_commit(), 303)
        return desk.page("wait.html", area="changes")

    @pages.get("/changes/state.json")
    def state() -> Response:
        """For the page that waits for the box: whether there is another one to load."""
        return jsonify(leaving=leavings.of(author()) is not None)

    @pages.post("/changes/confirm")
    def confirm() -> BaseResponse:
        asked = request.form.get("revision", "")
        number = int(asked) if asked.isdecimal() and len(asked) < 10 else None
        keep = request.form.get("answer") == "keep"
        try:
            if keep:
                found = backend.confirm(author(), number)
                done(_("Revision %(number)s stays.", number=found))
            else:
                found = backend.rollback(author(), number)
                done(_("The settings of revision %(number)s are back.", number=found))
        except ControlError as failed:
            if failed.code == "unavailable":
                raise
            refused(_told(failed))
        desk.forget_status()
        return redirect(after_commit(), 303)

    @pages.get("/history")
    def history() -> str:
        asked = request.args.get("before", "")
        before = int(asked) if asked.isdecimal() and len(asked) < 10 else None
        revisions, more = backend.revisions(REVISIONS_SHOWN, before)
        return desk.page(
            "history.html", area="system", key="history", revisions=revisions, more=more, first=before is None
        )

    def known(number: int) -> dict[str, Any]:
        try:
            return backend.revision(number)
        except ControlError as failed:
            if failed.code == "unavailable":
                raise
            raise NotFound from None

    @pages.get("/history/<int:number>")
    def revision(number: int) -> str:
        return desk.page("revision.html", area="system", key="history", found=known(number))

    @pages.get("/history/<int:number>/file")
    def revision_file(number: int) -> str:
        return desk.page("file.html", area="system", text=known(number)["toml"], number=number)

    @pages.post("/history/<int:number>/restore")
    def restore(number: int) -> BaseResponse:
        backend.restore(author(), number)
        done(_("Revision %(number)s is in your pending changes. Apply them to bring it back.", number=number))
        return redirect(url_for("changes.review"), 303)

    return pages
