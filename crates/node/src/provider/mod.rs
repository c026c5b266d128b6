//! Offer disk to the cloud.

pub mod gate;
