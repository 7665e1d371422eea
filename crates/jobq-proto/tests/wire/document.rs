//! `docs/PROTOCOL.md` against the program: its examples, its messages, its error codes.
