"""ESC_PLUGINS, and the targets that notifiers of plug-ins and of services serve."""

import pytest

from escalation_core import Budget, Route, Settings, SettingsError

from .helpers import TARGETS, problems, read


def test_names_of_factories() -> None:
    """Names have a comma between two of them; blanks beside it do not matter."""
    assert () == Settings().plugins
    assert ("pager:make", "shop.alerts:Pager.make") == read(ESC_PLUGINS="pager:make, shop.alerts:Pager.make").plugins


@pytest.mark.parametrize(
    "text", ["", "pager", "pager.make", ":make", "pager:", "a:b,", "a:b c:d", "a..b:c", "a:b:c", "1:x"]
)
def test_bad_names_are_refused(text: str) -> None:
    """A text that is not such a list is refused, with the form that is expected."""
    [problem] = problems(lambda: read(ESC_PLUGINS=text)).values()
    assert problem.fault.endswith("is not a valid name of a factory")
    assert "write package.module:factory, and a comma between two of them" == problem.remedy


def test_a_name_twice_is_refused() -> None:
    """A factory that is named twice would make two notifiers for one target."""
    assert {"ESC_PLUGINS": "names 'a:b' twice; name each once"} == problems(lambda: read(ESC_PLUGINS="a:b,a:b"))


def test_a_url_is_not_quoted() -> None:
    """A URL in the wrong variable may be a secret, so the error does not hold it."""
    with pytest.raises(SettingsError) as caught:
        read(ESC_PLUGINS="https://hooks.example.org/T0K3N")
    assert "T0K3N" not in str(caught.value)


def test_names_in_code() -> None:
    """Code gives a list; a single text is refused, since a text is a sequence as well."""
    assert "is str" == problems(lambda: Settings(plugins="a:b"))["ESC_PLUGINS"].fault
    assert "5 is not" in problems(lambda: Settings(plugins=[5]))["ESC_PLUGINS"]  # type: ignore[list-item]


# --- targets that code serves

NAMED = {
    "ESC_ROUTES": '[{"targets": ["sms:ops"]}]',
    "ESC_BUDGETS": '{"sms:ops": null}',
    "ESC_FALLBACKS": '{"slack:ops": "sms:ops"}',
    "ESC_DEFAULT_TARGET": "sms:ops",
}


def test_own_targets_may_be_named() -> None:
    """Routes, budgets, fallbacks and the default target may name a target of the service's own."""
    settings = Settings.from_env(NAMED | {"ESC_TARGETS": TARGETS}, own_targets=["sms:ops"])
    assert ["sms:ops"] == settings.own_targets
    assert {*NAMED} == {*problems(lambda: Settings.from_env(NAMED | {"ESC_TARGETS": TARGETS}))}


def test_other_names_are_refused() -> None:
    """With targets of its own alone, too, a service cannot name a target that is not defined."""
    found = problems(lambda: Settings.from_env(NAMED, own_targets=["sms:other", "slack:ops"]))
    assert {*NAMED} == {*found}
    expected = "names the target 'sms:ops'; define it in ESC_TARGETS, or name one that a plug-in serves"
    assert {expected} == {*found.values()}


def test_unknown_targets_are_not_checked() -> None:
    """None says that the targets are not known yet; the check comes once they are."""
    settings = Settings.from_env(NAMED | {"ESC_TARGETS": TARGETS}, own_targets=None)
    assert "sms:ops" == settings.default_target
    assert {"ESC_CANARY_PCT"} == {
        *problems(lambda: Settings.from_env(NAMED | {"ESC_TARGETS": TARGETS, "ESC_CANARY_PCT": "x"}, own_targets=None))
    }


@pytest.mark.parametrize("wrong", ["sms:ops", 5, [""], [5], ["https://hooks.example.org/T0K3N"]])
def test_bad_own_targets_are_refused(wrong: object) -> None:
    """The names must be names of targets; a problem with them hides no other one and causes none."""
    settings = {"routes": [Route(targets=["a"])], "budgets": {"a": Budget(rate=1)}}
    found = problems(lambda: Settings(own_targets=wrong, **settings))  # type: ignore[arg-type]
    assert {"own_targets"} == {*found}
    assert "T0K3N" not in found["own_targets"]
