//! Read, write and judge access lists.
//!
//! An access list grants permissions to users and to two groups. It is kept as one short line of JSON, and
//! `None` stands for the list nearly everything has: everything to its owner.

use super::{keys::Keyring, principal::Principal};
use s3s::{
    S3Error, S3ErrorCode, S3Result,
    dto::{AccessControlPolicy, Grant as GrantDto, Grantee as GranteeDto, Owner, Permission as PermissionDto, Type},
    s3_error,
};
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// S3's limit of a list.
const GRANTS_MAX: usize = 100;
const ALL_USERS: &str = "http://acs.amazonaws.com/groups/global/AllUsers";
const AUTHENTICATED_USERS: &str = "http://acs.amazonaws.com/groups/global/AuthenticatedUsers";
const LOG_DELIVERY: &str = "http://acs.amazonaws.com/groups/s3/LogDelivery";

/// What may be granted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub(super) enum Permission {
    Read,
    Write,
    ReadAcp,
    WriteAcp,
    FullControl,
}

/// To whom.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Grantee {
    User(String),
    /// Everybody, signed or not.
    All,
    /// Everybody who has a key here.
    Authenticated,
    /// Kept because it is often set; nothing delivers logs under it.
    LogDelivery,
}

/// Who may do what with a bucket or an object.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Acl {
    pub(super) grants: Vec<(Grantee, Permission)>,
}

/// Lists named by one word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Canned {
    Private,
    PublicRead,
    PublicReadWrite,
    AuthenticatedRead,
    BucketOwnerRead,
    BucketOwnerFullControl,
    LogDeliveryWrite,
}

/// What a request asks of the access list of what it makes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) enum Wanted {
    #[default]
    Nothing,
    Canned(Canned),
    Grants(Acl),
}

impl Permission {
    fn name(self) -> &'static str {
        match self {
            Self::Read => "READ",
            Self::Write => "WRITE",
            Self::ReadAcp => "READ_ACP",
            Self::WriteAcp => "WRITE_ACP",
            Self::FullControl => "FULL_CONTROL",
        }
    }

    fn parse(name: &str) -> Option<Self> {
        [Self::Read, Self::Write, Self::ReadAcp, Self::WriteAcp, Self::FullControl]
            .into_iter()
            .find(|one| one.name() == name)
    }
}

impl Canned {
    pub(super) fn parse(name: &str) -> S3Result<Self> {
        Ok(match name {
            "private" => Self::Private,
            "public-read" => Self::PublicRead,
            "public-read-write" => Self::PublicReadWrite,
            "authenticated-read" | "aws-exec-read" => Self::AuthenticatedRead,
            "bucket-owner-read" => Self::BucketOwnerRead,
            "bucket-owner-full-control" => Self::BucketOwnerFullControl,
            "log-delivery-write" => Self::LogDeliveryWrite,
            _ => return Err(s3_error!(InvalidArgument, "There is no canned access list of this name: {name:?}")),
        })
    }
}

impl Wanted {
    /// From the two ways of saying it; both at once are refused, as at S3. `grants` are of the headers
    /// `x-amz-grant-…`, by permission.
    pub(super) fn parse(canned: Option<&str>, grants: &[(Permission, &str)], keyring: &Keyring) -> S3Result<Self> {
        match (canned, grants) {
            (None, []) => Ok(Self::Nothing),
            (Some(name), []) => Ok(Self::Canned(Canned::parse(name)?)),
            (Some(_), _) => Err(s3_error!(InvalidRequest, "Say either x-amz-acl or x-amz-grant-*, not both.")),
            (None, grants) => {
                let mut acl = Acl::default();
                for (permission, value) in grants {
                    for one in value.split(',').map(str::trim).filter(|one| !one.is_empty()) {
                        acl.grants.push((Grantee::parse(one, keyring)?, *permission));
                    }
                }
                acl.check()?;
                Ok(Self::Grants(acl))
            }
        }
    }

    /// The list itself; nothing where it is the one everything has.
    pub(super) fn resolve(self, owner: &str, bucket_owner: &str) -> Option<Acl> {
        match self {
            Self::Nothing | Self::Canned(Canned::Private) => None,
            Self::Canned(canned) => Some(Acl::canned(canned, owner, bucket_owner)),
            Self::Grants(acl) => Some(acl),
        }
    }

    pub(super) fn is_public(&self) -> bool {
        match self {
            Self::Nothing => false,
            Self::Canned(canned) => {
                matches!(canned, Canned::PublicRead | Canned::PublicReadWrite | Canned::AuthenticatedRead)
            }
            Self::Grants(acl) => acl.is_public(),
        }
    }
}

impl Grantee {
    /// As in a header: `id="…"`, `uri="…"` or `emailAddress="…"`.
    fn parse(text: &str, keyring: &Keyring) -> S3Result<Self> {
        let Some((kind, value)) = text.split_once('=') else {
            return Err(s3_error!(InvalidArgument, "A grantee is id=, uri= or emailAddress=, found {text:?}"));
        };
        let value = value.trim().trim_matches('"');
        match kind.trim() {
            "id" => Self::user(value, keyring),
            "uri" => Self::group(value),
            kind if kind.eq_ignore_ascii_case("emailAddress") => Self::email(value, keyring),
            _ => Err(s3_error!(InvalidArgument, "A grantee is id=, uri= or emailAddress=, found {text:?}")),
        }
    }

    fn user(id: &str, keyring: &Keyring) -> S3Result<Self> {
        match keyring.by_id(id) {
            Some(user) => Ok(Self::User(user.id.clone())),
            None => Err(s3_error!(InvalidArgument, "Nobody has this id: {id:?}")),
        }
    }

    fn email(email: &str, keyring: &Keyring) -> S3Result<Self> {
        match keyring.by_email(email) {
            Some(user) => Ok(Self::User(user.id.clone())),
            None => Err(s3_error!(UnresolvableGrantByEmailAddress, "Nobody has this address: {email:?}")),
        }
    }

    fn group(uri: &str) -> S3Result<Self> {
        match uri {
            ALL_USERS => Ok(Self::All),
            AUTHENTICATED_USERS => Ok(Self::Authenticated),
            LOG_DELIVERY => Ok(Self::LogDelivery),
            _ => Err(s3_error!(InvalidArgument, "There is no such group: {uri:?}")),
        }
    }

    fn includes(&self, principal: Option<&Principal>) -> bool {
        match (self, principal) {
            (Self::All, _) | (Self::Authenticated, Some(_)) => true,
            (Self::User(id), Some(principal)) => *id == principal.id,
            _ => false,
        }
    }
}

impl Acl {
    /// Groups come first, as clients have come to expect.
    pub(super) fn canned(canned: Canned, owner: &str, bucket_owner: &str) -> Self {
        use Permission::{FullControl, Read, ReadAcp, Write};
        let user = |id: &str| Grantee::User(id.to_owned());
        let mut grants = match canned {
            Canned::Private => vec![],
            Canned::PublicRead => vec![(Grantee::All, Read)],
            Canned::PublicReadWrite => vec![(Grantee::All, Read), (Grantee::All, Write)],
            Canned::AuthenticatedRead => vec![(Grantee::Authenticated, Read)],
            Canned::LogDeliveryWrite => vec![(Grantee::LogDelivery, Write), (Grantee::LogDelivery, ReadAcp)],
            Canned::BucketOwnerRead | Canned::BucketOwnerFullControl => vec![],
        };
        grants.push((user(owner), FullControl));
        if bucket_owner != owner {
            match canned {
                Canned::BucketOwnerRead => grants.push((user(bucket_owner), Read)),
                Canned::BucketOwnerFullControl => grants.push((user(bucket_owner), FullControl)),
                _ => {}
            }
        }
        Self { grants }
    }

    pub(super) fn private(owner: &str) -> Self {
        Self::canned(Canned::Private, owner, owner)
    }

    pub(super) fn encode(&self) -> String {
        serde_json::to_string(self).expect("a list of names is JSON")
    }

    /// As kept; what cannot be read grants nothing.
    pub(super) fn decode(text: &str) -> Self {
        serde_json::from_str(text).unwrap_or_default()
    }

    fn check(&self) -> S3Result<()> {
        if self.grants.len() > GRANTS_MAX {
            return Err(s3_error!(InvalidArgument, "An access list has at most {GRANTS_MAX} grants."));
        }
        Ok(())
    }

    /// Whether a permission is granted; groups do not count where they are to be ignored.
    pub(super) fn allows(&self, permission: Permission, principal: Option<&Principal>, ignores_groups: bool) -> bool {
        self.grants.iter().any(|(grantee, granted)| {
            (*granted == permission || *granted == Permission::FullControl)
                && grantee.includes(principal)
                && !(ignores_groups && matches!(grantee, Grantee::All | Grantee::Authenticated))
        })
    }

    pub(super) fn is_public(&self) -> bool {
        self.grants.iter().any(|(grantee, _)| matches!(grantee, Grantee::All | Grantee::Authenticated))
    }

    /// It grants its owner everything, and nobody else anything.
    pub(super) fn is_private(&self, owner: &str) -> bool {
        self.grants.iter().all(|(grantee, _)| *grantee == Grantee::User(owner.to_owned()))
    }

    /// From the body of a request. Owners stay who they are.
    pub(super) fn from_dto(policy: AccessControlPolicy, owner: &str, keyring: &Keyring) -> S3Result<Self> {
        if let Some(named) = policy.owner.and_then(|owner| owner.id)
            && named != owner
        {
            return Err(s3_error!(AccessDenied, "The owner cannot be changed by an access list."));
        }
        let mut acl = Self::default();
        for grant in policy.grants.unwrap_or_default() {
            let permission = grant.permission.as_ref().and_then(|permission| Permission::parse(permission.as_str()));
            let (Some(permission), Some(to)) = (permission, grant.grantee) else {
                return Err(S3Error::new(S3ErrorCode::MalformedACLError));
            };
            let grantee = match to.type_.as_str() {
                "Group" => Grantee::group(to.uri.as_deref().unwrap_or(""))?,
                "AmazonCustomerByEmail" => Grantee::email(to.email_address.as_deref().unwrap_or(""), keyring)?,
                _ => Grantee::user(to.id.as_deref().unwrap_or(""), keyring)?,
            };
            acl.grants.push((grantee, permission));
        }
        acl.check()?;
        Ok(acl)
    }

    pub(super) fn to_dto(&self, keyring: &Keyring) -> Vec<GrantDto> {
        let mut grants = self.grants.clone();
        grants.sort_by_key(|(grantee, _)| matches!(grantee, Grantee::User(_)));
        grants
            .into_iter()
            .map(|(grantee, permission)| {
                let mut to = GranteeDto {
                    display_name: None,
                    email_address: None,
                    id: None,
                    type_: Type::from_static(Type::GROUP),
                    uri: None,
                };
                match grantee {
                    Grantee::User(id) => {
                        to.type_ = Type::from_static(Type::CANONICAL_USER);
                        to.display_name = keyring.name_of(&id);
                        to.id = Some(id);
                    }
                    Grantee::All => to.uri = Some(ALL_USERS.into()),
                    Grantee::Authenticated => to.uri = Some(AUTHENTICATED_USERS.into()),
                    Grantee::LogDelivery => to.uri = Some(LOG_DELIVERY.into()),
                }
                GrantDto { grantee: Some(to), permission: Some(PermissionDto::from_static(permission.name())) }
            })
            .collect()
    }
}

/// An owner as answers show it.
pub(super) fn owner(id: &str, keyring: &Keyring) -> Owner {
    Owner { display_name: keyring.name_of(id), id: Some(id.to_owned()) }
}

/// Somebody's own id and name.
pub(super) fn owner_of(principal: &Arc<Principal>) -> Owner {
    Owner { display_name: Some(principal.name.clone()), id: Some(principal.id.clone()) }
}
