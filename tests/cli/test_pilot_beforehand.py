"""What `up` looks at before it starts anything: a hub elsewhere, a model that is to see pictures, a stream."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from gateway.small_models import add_model
from hub.test_hub_process import running, settings_of
from nearhall.cli.pilot.beforehand import check_hub, check_models, check_streams
from nearhall.core.errors import InputError
from nearhall.documents.up import Up, default_pilot
from nearhall.drivers.authority import issue, make_authority


def pilot(**of_first: object) -> Up:
    """The default pilot with its first workload changed."""
    up = default_pilot(light=True)
    first, *others = up.sites
    workload = first.workloads[0].model_copy(update=of_first)
    return up.model_copy(update={"sites": [first.model_copy(update={"workloads": [workload, *first.workloads[1:]]}), *others]})


def at_hub(up: Up, url: str, credentials: Path) -> Up:
    return up.model_copy(update={"hub": up.hub.model_copy(update={"url": url, "credentials": str(credentials)})})


def test_a_hub_elsewhere_is_asked_as_each_site(tmp_path: Path, free_port: Callable[[], int]):
    up = default_pilot(light=True)
    credentials = tmp_path / "credentials"
    with running(settings_of(tmp_path)) as (_, ports):
        url = f"https://127.0.0.1:{ports['api_port']}"
        authority = make_authority(tmp_path / "authority")
        for site in up.sites:
            issue(authority, site.id, credentials / site.id, kind="site", dns_names=[], ip_addresses=[])
        said: list[str] = []
        check_hub(at_hub(up, url, credentials), tell=said.append)
        assert said == [f"the hub at {url} knows shop-01, plant-02"]

        (credentials / "plant-02").rename(credentials / "away")
        (credentials / "shop-01").rename(credentials / "plant-02")
        (credentials / "away").rename(credentials / "shop-01")
        with pytest.raises(InputError, match="does not take shop-01's certificate"):
            check_hub(at_hub(up, url, credentials), tell=said.append)
    nowhere = f"https://127.0.0.1:{free_port()}"
    with pytest.raises(InputError, match=rf"--hub: {nowhere}: the hub does not answer: .*; start it there"):
        check_hub(at_hub(up, nowhere, credentials), tell=said.append)
    check_hub(up, tell=said.append)
    assert len(said) == 1, "a pilot with its own hub asks nobody"


def test_a_model_that_takes_no_picture_is_told(tmp_path: Path):
    for name in {"double", *(model for site in pilot().sites for model in site.models)}:
        add_model(tmp_path, name, doubled=True)
    with pytest.raises(InputError, match="--model: model 'double' does not take one picture"):
        check_models(pilot(kind="camera", model="double"), tmp_path)
    check_models(pilot(kind="camera", model="nobody_here"), tmp_path)
    check_models(pilot(), tmp_path)


def test_a_model_that_is_not_held_is_told_with_the_way_to_add_it(tmp_path: Path):
    add_model(tmp_path, "double", doubled=True)
    with pytest.raises(
        InputError, match=r"names the model 'faces', .*add it \(nearhall models add FILE --name faces\).*: double$"
    ):
        check_models(pilot(), tmp_path)


def test_a_stream_that_is_none_is_told(tmp_path: Path):
    film = tmp_path / "x.mp4"
    film.write_bytes(b"no film")
    with pytest.raises(InputError, match="is no film that can be read"):
        check_streams(pilot(source=str(film)), {}, tell=lambda _: None)
    check_streams(pilot(), {}, tell=lambda _: None)
