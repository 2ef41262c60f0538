"""Configurations: every file is valid, unknown keys name the nearest, values are checked."""

import json
import re

import pytest
import yaml

from rephase.config import dump_config, load_config, load_sweep, override_of
from rephase.errors import ConfigError, RephaseError
from rephase.files.plain_yaml import yaml_text, yaml_value
from rephase.laboratories import check_work
from rephase.paths import CONFIGS
from rephase.sweeps import sweep_points


@pytest.mark.parametrize("name", [path.stem for path in CONFIGS.glob("*.yaml")])
def test_every_configuration_is_valid(name):
    check_work(load_config(name))


@pytest.mark.parametrize("name", [path.stem for path in (CONFIGS / "sweeps").glob("*.yaml")])
def test_every_sweep_is_valid(name):
    sweep, _ = load_sweep(name)
    for point in sweep_points(sweep.model_copy(update={"seeds": sweep.seeds[:1]})):
        check_work(load_config(sweep.base, [*sweep.overrides, *(f"{k}={yaml.safe_dump(v)}" for k, v in point.items())]))


@pytest.mark.parametrize(
    ("override", "message"),
    [
        (
            "crystals.data.pertubation.kind=strain",
            "unknown key 'crystals.data.pertubation'; did you mean 'perturbation'",
        ),
        ("crystals.training.epoch=3", "unknown key 'crystals.training.epoch'; did you mean 'epochs'"),
        ("crystals.models.mlp.option={}", "unknown key 'crystals.models.mlp.option'; did you mean 'options'"),
        ("crystals.training.epochs=many", "crystals.training.epochs = 'many'"),
        ("crystals.training.epochs=0", "crystals.training.epochs = 0"),
        ("crystals.data.perturbation.kind=shake", "crystals.data.perturbation.kind = 'shake'"),
        ("crystals.data.h_max=[6,6]", "crystals.data.h_max"),
        ("crystals.data.d_min=-1", "crystals.data.d_min = -1"),
        ("completion.model={}", "unknown key 'completion.model'; did you mean 'models'"),
        ("completion.training.loss=r_faktor", "completion.training.loss = 'r_faktor'"),
        ("training.epochs", "expected path.to.key=value"),
        ("crystals.training.epochs=: [", "the value is not YAML"),
        ("crystals.data.h_max=[-1,6,6]", "crystals.data.h_max.0 = -1"),
        ("crystals.data.h_max=[6,100000,6]", "crystals.data.h_max.1 = 100000"),
        ("crystals.data.energy_kev=-1", "crystals.data.energy_kev = -1"),
        ("crystals.data.unseen=[Ni]", "Ni occurs twice in crystals and unseen"),
        ("crystals.data.crystals=[Ni,Ni]", "Ni occurs twice"),
        ("crystals.data.split={train: 0.9, validation: 0.5}", "the test split would be empty"),
        ("crystals.data.split={train: 0.9, validation: 0.005}", "the validation split would be empty"),
    ],
)
def test_wrong_overrides(override, message):
    with pytest.raises(ConfigError, match=message):
        load_config("test", [override])


def test_missing_configuration_names_the_nearest():
    with pytest.raises(ConfigError, match="did you mean 'quick.yaml'"):
        load_config("quik.yaml")


@pytest.mark.parametrize(
    ("load", "message"),
    [
        (load_config, "config 'nope': no such file, .*; known: comparison, image_experiments, paper, quick, [^/]*$"),
        (load_sweep, "sweep 'nope': no such file, .*; known: image_labels, .*, tasks$"),
    ],
)
def test_an_unknown_name_lists_files_of_its_kind(load, message):
    with pytest.raises(ConfigError, match=message):
        load("nope")


@pytest.mark.parametrize("source", ["sweeps/tasks", "sweeps/tasks.yaml"])
def test_a_sweep_that_is_run_as_a_configuration_names_its_command(source):
    with pytest.raises(ConfigError, match=f"config '{source}': this is a sweep; run it with `rephase sweep tasks`"):
        load_config(source)


def test_file_that_is_no_mapping(tmp_path):
    (tmp_path / "list.yaml").write_text("- 1\n")
    with pytest.raises(ConfigError, match="expected keys and values"):
        load_config(tmp_path / "list.yaml")


def test_file_that_is_no_yaml(tmp_path):
    (tmp_path / "bad.yaml").write_text("a: [1,\n")
    with pytest.raises(ConfigError, match="not YAML"):
        load_config(tmp_path / "bad.yaml")


def test_model_and_its_training_are_checked():
    with pytest.raises(ConfigError, match="unknown option 'witdh'; did you mean 'width'"):
        check_work(load_config("test", ["crystals.models.mlp.options.witdh=3"]))
    with pytest.raises(ConfigError, match="crystals: models.mlp.training: unknown key 'epoch'; did you mean 'epochs'"):
        check_work(load_config("test", ["crystals.models.mlp.training.epoch=3"]))


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("crystals.models.mlp.options.width=abc", "width = 'abc' cannot be built"),
        ("crystals.models.mlp.options.width=-3", "width = -3 cannot be built"),
        ("crystals.models.unet3d.options.levels=0", "levels = 0.* cannot be built"),
        ("crystals.models.transformer={}", "unknown model 'transformer'"),
        ("completion.models.unett={}", "unknown model 'unett'; did you mean 'unet'"),
        ("completion.models.unet.options.widht=8", "unknown option 'widht'; did you mean 'width'"),
        ("completion.models.unet.training.loss=aligned", "loss = 'aligned'"),
        ("crystals.data.crystals=[Nii]", "did you mean 'Ni'"),
        ("crystals.data.energy_kev=100", "energy_kev = 100.0: the table of Ni covers"),
    ],
)
def test_work_that_cannot_be_done_is_refused_before_it_starts(override, message):
    with pytest.raises(RephaseError, match=message):
        check_work(load_config("test", [override]))


def test_keys_that_are_younger_than_trainings_show_only_where_they_change_something():
    plain, spelled = (
        load_config("test"),
        load_config("test", ["phasing.data.n_molecules=1", "phasing.data.on_special=0"]),
    )
    assert not {"n_molecules", "on_special"} & plain.phasing.data.model_dump().keys()
    assert plain.fingerprint() == spelled.fingerprint()
    changed = load_config("test", ["phasing.data.n_molecules=2", "phasing.data.on_special=0.2"])
    assert changed.fingerprint() != plain.fingerprint()
    assert yaml_value(dump_config(changed), "it is")["phasing"]["data"]["n_molecules"] == 2
    assert changed.changed({"phasing.data.n_molecules": 1, "phasing.data.on_special": 0}) == plain


def test_fingerprint_follows_every_value():
    base = load_config("test").fingerprint()
    assert base == load_config("test").fingerprint()
    assert base != load_config("test", ["seed=1"]).fingerprint()


def test_own_training_of_a_model_goes_first():
    config = load_config("test", ["crystals.models.mlp.training={epochs: 7}"])
    assert config.crystals.training_of("mlp").epochs == 7
    assert config.crystals.training_of("linear").epochs == 2


def test_points_of_a_sweep(tmp_path):
    (tmp_path / "s.yaml").write_text(
        "base: test\ngrid: {a: [1, 2], b: [3, 4]}\ncases: [{c: 5}, {c: 6, d: 7}]\nseeds: [0, 1]\n"
    )
    points = sweep_points(load_sweep(tmp_path / "s.yaml")[0])
    assert len(points) == 16
    assert {"a": 2, "b": 3, "c": 6, "d": 7, "seed": 1} in points


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("2020-01-01", "2020-01-01"),
        ("no", "no"),
        ("1:30", "1:30"),
        ("010", 10),
        ("1e-3", 1e-3),
        ("true", True),
        ("~", None),
        ("", None),
        ("[a, {b: 1}]", ["a", {"b": 1}]),
        ("0x10", "0x10"),
        ("'1'", "1"),
    ],
)
def test_yaml_is_plain(text, value):
    found = yaml_value(text, "it is")
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("[" * 1000 + "]" * 1000, "nested deeper than 50 levels"),
        ("{a: " * 1000 + "1" + "}" * 1000, "nested deeper than 50 levels"),
        ("&a [*a]", "anchors"),
        ("a: &x [1]\nb: [*x, *x]", "anchors"),
        ("!!python/object/apply:os.system [ls]", "tags"),
        ("a: 1\na: 2", "key 'a' occurs twice, again in line 2"),
        ("{[1]: 2}", "a key that is not a word"),
        ("9" * 5000, "a whole number of at most 18 digits"),
        ("a:\n\t- 1", "cannot start any token"),
        ('"\\0"', "NUL"),
        ("\x07", "special characters are not allowed"),
        ("a: 1\n---\nb: 2", "expected a single document"),
    ],
)
def test_yaml_that_configurations_have_no_use_for(text, reason):
    with pytest.raises(ConfigError, match=f"^it is not YAML: .*{reason}"):
        yaml_value(text, "it is")


@pytest.mark.parametrize(
    "value",
    ["2020-01-01", "no", "1e3", "1:30", "null", "~", ".inf", "010", "a: b", "x #y", "\udcfc", "ü\nx", "<<", "*a"],
)
def test_a_text_is_written_as_it_is_read(value):
    assert yaml_value(yaml_text({"key": value}), "it is") == {"key": value}


@pytest.mark.parametrize("content", [b"", b"- a", b"a", b"\x00", b"\x1f\x8bxx", b"seed: [", b"seed: \xe4"])
def test_a_file_that_is_no_configuration(tmp_path, content):
    path = tmp_path / "c.yaml"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=re.escape(str(path))):
        load_config(path)


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_configurations_in_any_encoding(tmp_path, encoding):
    path = tmp_path / "c.yaml"
    path.write_bytes((CONFIGS / "test.yaml").read_text(encoding="utf-8").replace("\n", "\r\n").encode(encoding))
    assert load_config(path) == load_config("test")


@pytest.mark.parametrize("source", ["\0", "a" * 5000, "none.yaml"])
def test_no_such_configuration(source):
    with pytest.raises(ConfigError, match="no such file, nor in"):
        load_config(source)


def test_a_folder_is_no_configuration(tmp_path):
    with pytest.raises(ConfigError, match="is a folder; give a YAML file"):
        load_config(tmp_path)


@pytest.mark.parametrize(
    "text", ["/data/Sample #1/a.hkl", "/data/x: y.hkl", "/data/[1]", "/data/'a'", "/data/- a", "/2020-01-01"]
)
def test_set_takes_a_text_as_it_stands(text):
    config = load_config("test", [f"solving.file={text}", f"crystals.example={text}", f"solving.space_group={text}"])
    assert (config.solving.file, config.crystals.example, config.solving.space_group) == (text, text, text)
    assert override_of("solving.file", text) == f"solving.file={text}"


def test_set_of_anything_else_is_yaml():
    config = load_config(
        "test",
        [
            "solving.file=null",
            "crystals.data.d_min=null",
            "crystals.data.crystals=[Ni, Copper]",
            "crystals.data.unseen=[]",
        ],
    )
    assert (config.solving.file, config.crystals.data.d_min, config.crystals.data.crystals) == (
        None,
        None,
        ("Ni", "Copper"),
    )
    for value in ("strain", "all_atoms"):
        override = override_of("crystals.data.perturbation.kind", value)
        assert load_config("test", [override]).crystals.data.perturbation.kind == value


PLACES_OF_NAMES = [
    "crystals.models={{{}: {{}}}}",
    "completion.models={{{}: {{}}}}",
    "images.models={{{}: {{}}}}",
    "scattering.saxs.models={{{}: {{}}}}",
    "scattering.saxs.losses.flows={{{}: {{}}}}",
    "scattering.saxs.losses.cases={{{}: {{}}}}",
    "images.experiments={{{}: {{seed: [1]}}}}",
]


@pytest.mark.parametrize("place", PLACES_OF_NAMES)
@pytest.mark.parametrize(
    "name", ["../../x", "a/b", "", ".", "..", "a" * 300, " a", "a ", "a.b", "-a", "a\\b", "a$b", "<b>", "\u202ea"]
)
def test_names_are_no_paths(place, name):
    with pytest.raises(ConfigError, match="expected letters, digits, blanks inside, _ and -"):
        load_config("test", [place.format(json.dumps(name))])


@pytest.mark.parametrize(
    "key",
    [
        "scattering.saxs.inference.weights=../../x",
        "completion.comparison.models=[../../x]",
        "images.classify.weights=a/b",
    ],
)
def test_names_of_weights_are_no_paths_to_nothing(key):
    with pytest.raises(ConfigError, match="expected letters, digits, blanks inside, _ and -"):
        load_config("test", [key])


def test_names_have_letters_of_any_language():
    config = load_config("test", ["scattering.saxs.losses.flows={größer als-2_x: {}}"])
    assert list(config.scattering.saxs.losses.flows) == ["größer als-2_x"]
    assert yaml_value(dump_config(config), "it is") == config.model_dump(mode="json")


UNBOUNDED = [
    "seed=-1",
    "seed=1e20",
    "seed=9223372036854775808",
    "images.seeds=[-1]",
    "crystals.data.seed=0.5",
    "crystals.training.learning_rate=.inf",
    "crystals.training.learning_rate=.nan",
    "solving.effort=.nan",
]


@pytest.mark.parametrize("override", UNBOUNDED)
def test_numbers_are_bounded(override):
    with pytest.raises(ConfigError, match=override.split("=")[0]):
        load_config("test", [override])


@pytest.mark.parametrize("text", ["grid: {seed: []}", "seeds: []", "seeds: [-1]", "seeds: [1e30]"])
def test_a_sweep_of_nothing_is_refused(tmp_path, text):
    (tmp_path / "s.yaml").write_text(text)
    with pytest.raises(ConfigError, match="s.yaml: "):
        load_sweep(tmp_path / "s.yaml")


def test_endless_yaml_is_refused_before_it_is_read(tmp_path):
    path = tmp_path / "long.yaml"
    path.write_text("seed: 1\n" + "#" * 1_000_000)
    with pytest.raises(ConfigError, match=r"too long: 1,000,008 letters, expected at most 200,000"):
        load_config(path)
