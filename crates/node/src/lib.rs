//! Offer a machine to the cloud.
