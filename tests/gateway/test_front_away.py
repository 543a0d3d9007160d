"""What an operator, and a client, is told of nodes that are away or were lost."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from gateway.front_rig import ScriptedNode, front_of, model, until_standing
from gateway.test_front import LLM, story
from gateway.test_front_process import command
from nearhall.core.errors import InputError
from nearhall.documents.front import FrontDocument
from nearhall.documents.yaml_file import read_document
from nearhall.policy.spread import Standing
from nearhall.wire.load import NodeLoad
from waiting import until_async


@story
async def test_the_log_says_each_reason_why_a_node_is_away_once(caplog):
    async with front_of(ScriptedNode("n1", model())) as rig:
        node = rig.nodes["n1"]
        await node.stop()
        await until_standing(rig, "n1", "away")
        node.load = {"not": "a report"}
        await node.start()
        await until_async(lambda: "cannot be read" in rig.node("n1").detail, what="it answers what is no report")
        asked = rig.node("n1")._epoch
        await until_async(lambda: rig.node("n1")._epoch > asked + 2, what="it is asked again")
        told = [line for line in caplog.messages if "n1 is away" in line]
        assert len([line for line in told if "cannot be read" in line]) == 1
        assert len(told) == len(set(told)) >= 2
        node.load = NodeLoad(node="s/n1", models=[model()])
        await until_standing(rig, "n1", "up", "trial")


@pytest.mark.parametrize("names", [["n1"], ["n1", "n2"]])
@story
async def test_a_request_that_every_node_dropped_is_no_fault_of_its_clients(names):
    async with front_of(*(ScriptedNode(name, LLM, model()) for name in names)) as rig:
        assert (await rig.infer()).status == 200
        for node in rig.nodes.values():
            node.does = "drops"
        for answer in (await rig.chat(), await rig.infer()):
            assert (answer.status, answer.reason) == (503, "nodes_away")
            assert "was lost with the request (it dropped the connection), and no other node" in answer.body.decode()
            assert answer.headers["retry-after"] == "1"


@story
async def test_a_gateway_with_two_addresses_is_one_node_and_the_second_stands_by():
    both = [ScriptedNode(name, model()) for name in ("n1", "n2")]
    for node in both:
        node.load = replace(node.load, gateway_id="the same")
    async with front_of(*both, ScriptedNode("n3", model())) as rig:
        names = ("n1", "n2")
        await until_async(lambda: [rig.node(name).standing for name in names].count(Standing.AWAY) == 1, what="one is away")
        first, second = sorted(names, key=lambda name: rig.node(name).standing is Standing.AWAY)
        assert rig.node(second).detail == f"it is the same gateway as node {first}, and stands by for that address"
        assert rig.node("n3").standing is Standing.UP, "who says no id is no twin"
        asked = [(await rig.infer()).body.decode() for _ in range(12)]
        assert set(asked) == {first, "n3"}
        await rig.nodes[first].stop()
        await until_standing(rig, second, "up", "trial")
        assert rig.node(first).standing is Standing.AWAY


def test_no_line_is_folded_and_no_address_cut_where_no_terminal_is(short_folder):
    far = "http://127.0.0.1:1"
    named = f"unix:{short_folder}/{'long' * 20}"
    with command(short_folder, "--node", f"n1={named}", "--node", f"n2={far}", "--http", "0", as_json=False) as (_, process):
        first, second = process.stdout.readline(), process.stdout.readline()
    assert f"n1    {named}    away    it cannot be reached (" in first
    assert f"n2    {far}" in second
    assert second.rstrip().endswith("it cannot be reached (Connection refused)")


@pytest.mark.parametrize(
    ("nodes", "says"),
    [
        ('{id: n1, url: "http://x"}', "wants http://HOST:PORT, https://HOST:PORT or unix:PATH (given: 'http://x')"),
        ("n1=http://x:1", "wants keys with values, such as {key: value} (given: 'n1=http://x:1')"),
    ],
)
def test_a_node_that_is_written_wrongly_is_told_how_it_is_written(tmp_path, nodes, says):
    document = tmp_path / "front.yaml"
    document.write_text(f"schema: nearhall/front/v1\nhttp: 8000\nnodes:\n  - {nodes}\n")
    with pytest.raises(InputError) as caught:
        read_document(document, FrontDocument)
    assert says in str(caught.value)
    document.write_text('schema: nearhall/front/v1\nhttp: 8000\nnodes:\n  - {id: n1, url: "http://x:1"}\n')
    assert read_document(document, FrontDocument).nodes[0].url == "http://x:1"
