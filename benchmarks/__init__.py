"""Commands that measure: Table 2, controls, throughput, an outside check. Nothing else imports them."""
