//! Read what a bucket says about who may use it.
//!
//! The documents are set by [`super::documents`] and kept with the bucket; one that cannot be read closes what
//! it was about, never opens it.

use super::{
    acl::Acl,
    decide::{Block, Guard, Ownership},
    documents::{self, name},
    keys::Keyring,
    policy::Policy,
};
use s3s::{
    S3Result,
    dto::{ObjectOwnership, OwnershipControls, PublicAccessBlockConfiguration},
    s3_error,
};
use std::collections::BTreeMap;

impl Guard {
    /// Of a bucket's documents.
    pub(super) fn of(bucket: &str, settings: &BTreeMap<String, String>, keyring: &Keyring) -> S3Result<Self> {
        let owner = match settings.get(name::OWNER) {
            Some(owner) => owner.clone(),
            None => keyring.main().map(|main| main.id.clone()).unwrap_or_default(),
        };
        let tenant = keyring.by_id(&owner).map(|owner| owner.tenant.clone()).unwrap_or_default();
        let policy = match settings.get(name::POLICY) {
            Some(text) => Some(Policy::parse(text, bucket).map_err(|error| {
                s3_error!(AccessDenied, "The bucket's policy cannot be read ({error}): its owner sets it again")
            })?),
            None => None,
        };
        Ok(Self {
            owner,
            tenant,
            policy,
            acl: settings.get(name::ACL).map(|text| Acl::decode(text)),
            block: match documents::read::<PublicAccessBlockConfiguration>(settings, name::PUBLIC_ACCESS)? {
                Some(block) => Block {
                    new_acls: block.block_public_acls == Some(true),
                    acls: block.ignore_public_acls == Some(true),
                    new_policies: block.block_public_policy == Some(true),
                    policies: block.restrict_public_buckets == Some(true),
                },
                None => Block::default(),
            },
            ownership: match documents::read::<OwnershipControls>(settings, name::OWNERSHIP)? {
                Some(controls) => Ownership::of(&controls),
                None => Ownership::default(),
            },
        })
    }
}

impl Ownership {
    pub(super) fn of(controls: &OwnershipControls) -> Self {
        controls.rules.first().map_or(Self::default(), |rule| Self::parse(&rule.object_ownership))
    }

    pub(super) fn parse(name: &ObjectOwnership) -> Self {
        match name.as_str() {
            ObjectOwnership::BUCKET_OWNER_ENFORCED => Self::Enforced,
            ObjectOwnership::BUCKET_OWNER_PREFERRED => Self::Preferred,
            _ => Self::Writer,
        }
    }
}
