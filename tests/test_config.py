"""Configurations: every file is valid, unknown keys name the nearest, values are checked."""

import pytest
import yaml

from rephase.config import load_config, load_sweep
from rephase.errors import ConfigError, RephaseError
from rephase.paths import CONFIGS
from rephase.pipeline import check_work, sweep_points


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
        ("data.pertubation.kind=strain", "unknown key 'data.pertubation'; did you mean 'perturbation'"),
        ("training.epoch=3", "unknown key 'training.epoch'; did you mean 'epochs'"),
        ("models.mlp.option={}", "unknown key 'models.mlp.option'; did you mean 'options'"),
        ("training.epochs=many", "training.epochs = 'many'"),
        ("training.epochs=0", "training.epochs = 0"),
        ("data.perturbation.kind=shake", "data.perturbation.kind = 'shake'"),
        ("data.h_max=[6,6]", "data.h_max"),
        ("data.d_min=-1", "data.d_min = -1"),
        ("completion.model={}", "unknown key 'completion.model'; did you mean 'models'"),
        ("completion.training.loss=r_faktor", "completion.training.loss = 'r_faktor'"),
        ("training.epochs", "expected path.to.key=value"),
        ("training.epochs=: [", "the value is not YAML"),
        ("data.h_max=[-1,6,6]", "data.h_max.0 = -1"),
        ("data.energy_kev=-1", "data.energy_kev = -1"),
        ("data.unseen=[Ni]", "Ni stands twice in crystals and unseen"),
        ("data.crystals=[Ni,Ni]", "Ni stands twice"),
        ("data.split={train: 0.9, validation: 0.5}", "the test split would be empty"),
        ("data.split={train: 0.9, validation: 0.005}", "the validation split would be empty"),
    ],
)
def test_wrong_overrides(override, message):
    with pytest.raises(ConfigError, match=message):
        load_config("test", [override])


def test_missing_configuration_names_the_nearest():
    with pytest.raises(ConfigError, match="did you mean 'quick.yaml'"):
        load_config("quik.yaml")


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
        check_work(load_config("test", ["models.mlp.options.witdh=3"]))
    with pytest.raises(ConfigError, match="models.mlp.training: unknown key 'epoch'; did you mean 'epochs'"):
        check_work(load_config("test", ["models.mlp.training.epoch=3"]))


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("models.mlp.options.width=abc", "width = 'abc' cannot be built"),
        ("models.mlp.options.width=-3", "width = -3 cannot be built"),
        ("models.unet3d.options.levels=0", "levels = 0.* cannot be built"),
        ("models.transformer={}", "unknown model 'transformer'"),
        ("completion.models.unett={}", "unknown model 'unett'; did you mean 'unet'"),
        ("completion.models.unet.options.widht=8", "unknown option 'widht'; did you mean 'width'"),
        ("completion.models.unet.training.loss=aligned", "loss = 'aligned'"),
        ("data.crystals=[Nii]", "did you mean 'Ni'"),
        ("data.energy_kev=100", "energy_kev = 100.0: the table of Ni covers"),
    ],
)
def test_work_that_cannot_be_done_is_refused_before_it_starts(override, message):
    with pytest.raises(RephaseError, match=message):
        check_work(load_config("test", [override]))


def test_fingerprint_follows_every_value():
    base = load_config("test").fingerprint()
    assert base == load_config("test").fingerprint()
    assert base != load_config("test", ["seed=1"]).fingerprint()


def test_own_training_of_a_model_goes_first():
    config = load_config("test", ["models.mlp.training={epochs: 7}"])
    assert config.training_of("mlp").epochs == 7
    assert config.training_of("linear").epochs == 2


def test_points_of_a_sweep(tmp_path):
    (tmp_path / "s.yaml").write_text(
        "base: test\ngrid: {a: [1, 2], b: [3, 4]}\ncases: [{c: 5}, {c: 6, d: 7}]\nseeds: [0, 1]\n"
    )
    points = sweep_points(load_sweep(tmp_path / "s.yaml")[0])
    assert len(points) == 16
    assert {"a": 2, "b": 3, "c": 6, "d": 7, "seed": 1} in points
