"""What a site costs and spares against the hub: tariffs, uplinks, egress, cash flows, rollout."""
