"""Checks a chain as somebody would who has only the reference: reads messages, prints the end of the chain."""

import hashlib
import json
import sys

end = "0:" + "0" * 64
for line in sys.stdin:
    entry = json.loads(line)
    if entry["kind"] == "checkpoint":
        continue
    written = entry.pop("hash")
    text = json.dumps(entry, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    computed = hashlib.sha256(b"maturion.audit.entry.v1\n" + text.encode()).hexdigest()
    assert computed == written, entry
    assert entry["previous_hash"] == end.split(":")[1], entry
    end = f"{entry['seq']}:{written}"
print(end)
