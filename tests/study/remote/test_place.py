"""Which cluster a command is about: profiles by their names and files, and what is wrong in them."""

from __future__ import annotations

import json
import re
from pathlib import Path

import jsonschema
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from cluster.kinds import make_profile_schema
from cluster.profiles.profile import Profile
from model.errors import UserError
from study.config.places import EXCLUDED_VARIABLE, PLACE_VARIABLE
from study.remote.place import Place, find_profile, map_paths, read_place, read_profile

RAY = {"kind": "ray", "storage": "/mnt/studies", "dashboard": "http://head:8265"}


def write_profile(folder: Path, name: str = "lab", **values: object) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / f"{name}.yaml"
    file.write_text(yaml.safe_dump(RAY | values))
    return file


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The home folder of a user who is in another, empty folder."""
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    return tmp_path / "home"


def test_a_profile_is_found_by_its_file_beside_the_work_or_in_the_users_folder(home: Path, tmp_path: Path) -> None:
    users = write_profile(home / ".config" / "decred-study" / "clusters", storage="/users")
    assert find_profile("lab") == users
    write_profile(Path("clusters"), storage="/beside")
    assert find_profile("lab") == Path("clusters/lab.yaml")
    assert find_profile(str(users)) == users
    assert read_place("lab", None).study_folder("demo") == "/beside/demo"


def test_a_profile_that_is_not_there_is_one_line_with_the_nearest_one(home: Path) -> None:
    with pytest.raises(UserError, match=r"^no profile 'lab'; write clusters/lab.yaml or ~/.config/.*/lab.yaml$"):
        find_profile("lab")
    write_profile(Path("clusters"))
    with pytest.raises(UserError, match=r"^no profile 'labs'; did you mean 'lab'\?$"):
        find_profile("labs")


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"kind": "slurmm"}, r"lab.yaml: kind is 'slurmm'; did you mean 'slurm'\?"),
        ({"kind": None}, r"lab.yaml: kind is None; known: .*ray"),
        ({"storage": "studies"}, r"storage: .*'studies' must be an absolute path"),
        ({"dashbord": "x"}, r"unknown key 'dashbord'; did you mean 'dashboard'\?"),
        ({"paths": {"here": "/there"}}, r"'here' must be an absolute path"),
        ({"tunnel": "ssh -N login"}, r"lacks \{port\}"),
    ],
)
def test_a_wrong_profile_is_one_line_with_what_is_allowed(tmp_path: Path, values: dict, message: str) -> None:
    with pytest.raises(UserError, match=message) as raised:
        read_profile(write_profile(tmp_path, **values))
    assert "\n" not in str(raised.value)


def test_the_profiles_of_the_readme_are_valid(tmp_path: Path) -> None:
    text = (Path(__file__).parents[3] / "README.md").read_text()
    blocks = re.findall(r"```yaml\n(# clusters/(\w+)\.yaml.*?)```", text, re.DOTALL)
    assert [name for _, name in blocks] == ["lab", "shared"]
    for content, name in blocks:
        (tmp_path / f"{name}.yaml").write_text(content)
        assert read_profile(tmp_path / f"{name}.yaml").storage == "/mnt/shared/studies"


def test_the_schema_accepts_a_profile_and_no_unknown_key(tmp_path: Path) -> None:
    schema = json.loads(make_profile_schema())
    jsonschema.validate(RAY, schema)
    for kind in schema["discriminator"]["mapping"].values():
        properties = schema["$defs"][kind.rpartition("/")[2]]["properties"]
        assert not [name for name, field in properties.items() if name != "kind" and not field.get("description")]
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(RAY | {"dashbord": "x"}, schema)


@pytest.mark.parametrize("given", [(None, None), ("lab", "http://head:8265")])
def test_a_cluster_is_named_in_exactly_one_way(given: tuple[str | None, str | None]) -> None:
    with pytest.raises(UserError, match=r"give either --on PROFILE or --address http://HOST:8265"):
        read_place(*given)


def test_a_study_gets_the_variables_that_are_named_and_no_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PASSED", "1")
    monkeypatch.setenv("NAMED", "2")
    monkeypatch.setenv("SECRET", "3")
    profile = Profile(storage="/s", env={"GLOO_SOCKET_IFNAME": "net0"}, pass_env=("PASSED",))
    environment = Place("lab", profile).environment(("NAMED",))
    assert environment == {"GLOO_SOCKET_IFNAME": "net0", "PASSED": "1", "NAMED": "2", PLACE_VARIABLE: "--on lab"}
    with pytest.raises(UserError, match=r"variable ABSENT is to be passed to the study, but is not set here"):
        Place("lab", profile).environment(("ABSENT",))


def test_machines_that_a_profile_excludes_are_named_to_the_study() -> None:
    environment = Place("lab", Profile(storage="/s", exclude=("10.0.0.2", "node3"))).environment()
    assert environment[EXCLUDED_VARIABLE] == "10.0.0.2,node3"
    assert EXCLUDED_VARIABLE not in Place("lab", Profile(storage="/s")).environment()


names = st.text("ab", min_size=1, max_size=2)
folders = st.lists(names, min_size=1, max_size=3).map(lambda parts: "/" + "/".join(parts))


@given(st.dictionaries(folders, folders, max_size=4), folders)
def test_a_path_is_there_below_the_longest_folder_that_holds_it(paths: dict[str, str], path: str) -> None:
    there = Profile(storage="/s", paths=paths).path_there(path)
    holding = [folder for folder in paths if path == folder or path.startswith(folder + "/")]
    if not holding:
        assert there == path
    else:
        longest = max(holding, key=len)
        assert there == paths[longest] + path[len(longest) :]


def test_only_values_that_are_paths_are_mapped() -> None:
    profile = Profile(storage="/s", paths={"/here": "/there"})
    values = {"init_from": "/here/run", "name": "/here/run", "tokenizer.file": None}
    assert map_paths(profile, values, ("init_from", "tokenizer.file")) == values | {"init_from": "/there/run"}
