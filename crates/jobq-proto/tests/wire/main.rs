//! The protocol's bytes: test vectors, what growth must not break, and the bounds that senders rely on.
//!
//! `JOBQ_BLESS=1 cargo test -p jobq-proto` rewrites `vectors.txt` and the examples in `docs/PROTOCOL.md` from the
//! values in `examples/`. Bytes that change there change the protocol: look at the difference before committing it.

mod cbor;
mod checks;
mod document;
mod examples;
mod growth;
mod sizes;
mod vectors;
