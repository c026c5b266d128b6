//! Open an authenticated stream to a node by its public key, directly or through a circuit.
