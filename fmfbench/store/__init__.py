"""The store on disk: schema, shards, digest and fingerprint, writer and reader, splits, label layers."""
