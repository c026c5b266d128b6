//! Speak other people's protocols: S3, OCI, git, HTTP, DNS, Ethereum RPC.
