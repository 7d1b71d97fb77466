"""What the operator remembers of resources, and that what is gone stays gone."""

from __future__ import annotations

from llmbatch.api import BatchFile
from llmbatch.reconcile.index.index import Index, key_of


def a_file(version: int, *, uid: str = "uid-1") -> BatchFile:
    """A file as the API server shows it at a version."""
    return BatchFile.model_validate(
        {
            "metadata": {
                "name": "questions",
                "namespace": "team",
                "uid": uid,
                "resourceVersion": str(version),
                "creationTimestamp": "2026-01-01T00:00:00Z",
            },
            "spec": {"targetModelNames": ["gpt"], "source": {"inline": "{}"}},
        }
    )


def test_an_older_version_is_passed_over():
    """Events and answers come in any order; the newest version stays."""
    index = Index()
    index.put(a_file(7))

    index.put(a_file(5))

    assert index.version_of(key_of(a_file(5))) == "7"


def test_an_answer_that_comes_after_the_end_does_not_bring_a_resource_back():
    """The answer to the write that took the last finalizer may be read after the event of the deletion."""
    index = Index()
    index.put(a_file(7))
    index.remove(key_of(a_file(7)), "9")

    index.put(a_file(8))
    index.put(a_file(9))

    assert not index.files
    assert not index.keys()


def test_a_resource_that_is_made_again_under_its_name_is_taken_in():
    """A new resource of that name has a newer version than the end of the old one."""
    index = Index()
    index.put(a_file(7))
    index.remove(key_of(a_file(7)), "9")

    index.put(a_file(10, uid="uid-2"))

    assert index.files[key_of(a_file(10))].uid == "uid-2"


def test_the_late_end_of_an_old_resource_leaves_its_successor():
    """A resource made again may be read before the event of the old one's deletion comes in."""
    index = Index()
    index.put(a_file(10, uid="uid-2"))

    index.remove(key_of(a_file(7)), "9")

    assert index.files[key_of(a_file(10))].uid == "uid-2"


def test_a_resource_that_cannot_be_read_counts_as_seen():
    """Its version is known, so that nobody waits for it, and there is nothing to work with."""
    index = Index()
    key = key_of(a_file(7))

    index.note(key, "7")

    assert index.version_of(key) == "7"
    assert not index.files
