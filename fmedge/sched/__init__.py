"""Pure decisions: values in, values or effects out; no clock, no I/O, no asyncio."""
