//! Open an authenticated stream to a node by its public key, directly or through a relay.
//!
//! ```text
//! Link::open(peer, protocol) ── cached QUIC connection per (peer, protocol) ── one bidirectional stream
//!                           └─ own key ── in-process duplex (iroh refuses to connect to itself)
//! Listener::accept ◄── bounded queue ◄── one task per connection, ◄── accept loop, connections capped
//! ```
//! The promise: whoever answers holds the Ed25519 key that was dialled, and what this process buffers for
//! the wire is bounded whatever the number of peers. Nobody else's servers are asked for anything: relays,
//! discovery and port mapping of iroh's makers are off, addresses come from the caller (that is, the ledger).
//! A peer behind an address translator names a relay, which any node may be ([`relay`]): the first packets go
//! through it, the others directly as soon as a direct path is found.
//!
//! A dead peer is noticed after [`IDLE`]; whoever waits on a stream sets shorter limits of its own.

mod endpoint;
mod pipe;
pub mod relay;

pub use endpoint::{Config, IDLE, Link, LinkError, Listener};
pub use pipe::{Sink, Stream};
