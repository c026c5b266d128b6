//! Set and show who may use a bucket: its policy, its access lists, and how it guards them.

use super::{
    access::wanted,
    acl::{self, Acl, Wanted},
    decide::{Guard, Ownership},
    documents::{self, name},
    fault::fault,
    objects::Objects,
    policy::Policy,
};
use hodei_sdk::change::Edit;
use s3s::{
    S3Error, S3ErrorCode, S3Request, S3Response, S3Result,
    dto::{
        AccessControlPolicy, DeleteBucketOwnershipControlsInput, DeleteBucketOwnershipControlsOutput,
        DeleteBucketPolicyInput, DeleteBucketPolicyOutput, DeletePublicAccessBlockInput, DeletePublicAccessBlockOutput,
        GetBucketAclInput, GetBucketAclOutput, GetBucketOwnershipControlsInput, GetBucketOwnershipControlsOutput,
        GetBucketPolicyInput, GetBucketPolicyOutput, GetBucketPolicyStatusInput, GetBucketPolicyStatusOutput,
        GetObjectAclInput, GetObjectAclOutput, GetPublicAccessBlockInput, GetPublicAccessBlockOutput,
        OwnershipControls, PolicyStatus, PublicAccessBlockConfiguration, PutBucketAclInput, PutBucketAclOutput,
        PutBucketOwnershipControlsInput, PutBucketOwnershipControlsOutput, PutBucketPolicyInput, PutBucketPolicyOutput,
        PutObjectAclInput, PutObjectAclOutput, PutPublicAccessBlockInput, PutPublicAccessBlockOutput,
    },
    s3_error,
};

impl Objects {
    pub(super) async fn guard(&self, bucket: &str) -> S3Result<Guard> {
        let settings = self.cloud.settings(bucket).await.map_err(fault)?;
        Guard::of(bucket, &settings, &self.keyring)
    }

    pub(super) async fn put_policy(
        &self,
        request: S3Request<PutBucketPolicyInput>,
    ) -> S3Result<S3Response<PutBucketPolicyOutput>> {
        let input = request.input;
        let policy =
            Policy::parse(&input.policy, &input.bucket).map_err(|error| s3_error!(MalformedPolicy, "{error}"))?;
        policy.check(|name| self.keyring.knows(name)).map_err(|error| s3_error!(MalformedPolicy, "{error}"))?;
        let guard = self.guard(&input.bucket).await?;
        if guard.block.new_policies && policy.is_public() {
            return Err(s3_error!(AccessDenied, "The bucket's public access block refuses public policies."));
        }
        self.cloud.set(&input.bucket, name::POLICY, Some(input.policy)).await.map_err(fault)?;
        Ok(S3Response::new(PutBucketPolicyOutput::default()))
    }

    pub(super) async fn get_policy(
        &self,
        request: S3Request<GetBucketPolicyInput>,
    ) -> S3Result<S3Response<GetBucketPolicyOutput>> {
        let settings = self.cloud.settings(&request.input.bucket).await.map_err(fault)?;
        match settings.get(name::POLICY) {
            Some(policy) => Ok(S3Response::new(GetBucketPolicyOutput { policy: Some(policy.clone()) })),
            None => Err(s3_error!(NoSuchBucketPolicy, "The bucket policy does not exist")),
        }
    }

    pub(super) async fn delete_policy(
        &self,
        request: S3Request<DeleteBucketPolicyInput>,
    ) -> S3Result<S3Response<DeleteBucketPolicyOutput>> {
        self.cloud.set(&request.input.bucket, name::POLICY, None).await.map_err(fault)?;
        Ok(S3Response::new(DeleteBucketPolicyOutput::default()))
    }

    /// Also without a policy: whether the bucket is open to everybody is a question either way.
    pub(super) async fn policy_status(
        &self,
        request: S3Request<GetBucketPolicyStatusInput>,
    ) -> S3Result<S3Response<GetBucketPolicyStatusOutput>> {
        let is_public = Some(self.guard(&request.input.bucket).await?.is_public());
        let policy_status = Some(PolicyStatus { is_public });
        Ok(S3Response::new(GetBucketPolicyStatusOutput { policy_status }))
    }

    /// The list a request asks for, of body or headers, which must be one of them.
    fn asked(
        &self,
        headers: &hyper::HeaderMap,
        body: Option<AccessControlPolicy>,
        owner: &str,
        guard: &Guard,
    ) -> S3Result<Option<Acl>> {
        if guard.ownership == Ownership::Enforced {
            return Err(s3_error!(AccessControlListNotSupported, "The bucket does not allow access lists."));
        }
        let wanted = match (wanted(headers, &self.keyring)?, body) {
            (Wanted::Nothing, Some(policy)) => Wanted::Grants(Acl::from_dto(policy, owner, &self.keyring)?),
            (Wanted::Nothing, None) => {
                return Err(S3Error::with_message(
                    S3ErrorCode::MissingSecurityHeader,
                    "Your request was missing a required header: x-amz-acl",
                ));
            }
            (_, Some(_)) => {
                return Err(s3_error!(UnexpectedContent, "Say either x-amz-acl or a list in the body, not both."));
            }
            (wanted, None) => wanted,
        };
        if guard.block.new_acls && wanted.is_public() {
            return Err(s3_error!(AccessDenied, "The bucket's public access block refuses public access lists."));
        }
        Ok(wanted.resolve(owner, &guard.owner))
    }

    pub(super) async fn put_bucket_list(
        &self,
        request: S3Request<PutBucketAclInput>,
    ) -> S3Result<S3Response<PutBucketAclOutput>> {
        let input = request.input;
        let guard = self.guard(&input.bucket).await?;
        let acl = self.asked(&request.headers, input.access_control_policy, &guard.owner, &guard)?;
        self.cloud.set(&input.bucket, name::ACL, acl.map(|acl| acl.encode())).await.map_err(fault)?;
        Ok(S3Response::new(PutBucketAclOutput::default()))
    }

    pub(super) async fn get_bucket_list(
        &self,
        request: S3Request<GetBucketAclInput>,
    ) -> S3Result<S3Response<GetBucketAclOutput>> {
        let guard = self.guard(&request.input.bucket).await?;
        let acl =
            guard.acl.filter(|_| guard.ownership != Ownership::Enforced).unwrap_or_else(|| Acl::private(&guard.owner));
        Ok(S3Response::new(GetBucketAclOutput {
            grants: Some(acl.to_dto(&self.keyring)),
            owner: Some(acl::owner(&guard.owner, &self.keyring)),
        }))
    }

    pub(super) async fn put_object_list(
        &self,
        request: S3Request<PutObjectAclInput>,
    ) -> S3Result<S3Response<PutObjectAclOutput>> {
        let input = request.input;
        let guard = self.guard(&input.bucket).await?;
        let version = version(input.version_id.as_deref())?;
        let entry = self.cloud.look(&input.bucket, &input.key, version).await.map_err(fault)?;
        let entry = entry.filter(|entry| !entry.marker).ok_or_else(|| no_such(version.is_some(), &input.key))?;
        let owner = entry.owner.as_deref().unwrap_or(&guard.owner);
        let acl = self.asked(&request.headers, input.access_control_policy, owner, &guard)?;
        // The version looked at, should another one be the newest by now.
        let edit = Edit::Acl(acl.map(|acl| acl.encode()));
        self.cloud.edit(&input.bucket, &input.key, Some(entry.version), edit).await.map_err(fault)?;
        Ok(S3Response::new(PutObjectAclOutput::default()))
    }

    pub(super) async fn get_object_list(
        &self,
        request: S3Request<GetObjectAclInput>,
    ) -> S3Result<S3Response<GetObjectAclOutput>> {
        let input = request.input;
        let guard = self.guard(&input.bucket).await?;
        let version = version(input.version_id.as_deref())?;
        let entry = self.cloud.look(&input.bucket, &input.key, version).await.map_err(fault)?;
        let entry = entry.filter(|entry| !entry.marker).ok_or_else(|| no_such(version.is_some(), &input.key))?;
        let is_enforced = guard.ownership == Ownership::Enforced;
        let owner = entry.owner.as_deref().filter(|_| !is_enforced).unwrap_or(&guard.owner);
        let acl = entry.acl.as_deref().filter(|_| !is_enforced).map_or_else(|| Acl::private(owner), Acl::decode);
        Ok(S3Response::new(GetObjectAclOutput {
            grants: Some(acl.to_dto(&self.keyring)),
            owner: Some(acl::owner(owner, &self.keyring)),
            ..GetObjectAclOutput::default()
        }))
    }

    pub(super) async fn put_block(
        &self,
        request: S3Request<PutPublicAccessBlockInput>,
    ) -> S3Result<S3Response<PutPublicAccessBlockOutput>> {
        let input = request.input;
        let document = documents::write(&input.public_access_block_configuration)?;
        self.cloud.set(&input.bucket, name::PUBLIC_ACCESS, Some(document)).await.map_err(fault)?;
        Ok(S3Response::new(PutPublicAccessBlockOutput::default()))
    }

    pub(super) async fn get_block(
        &self,
        request: S3Request<GetPublicAccessBlockInput>,
    ) -> S3Result<S3Response<GetPublicAccessBlockOutput>> {
        let settings = self.cloud.settings(&request.input.bucket).await.map_err(fault)?;
        let Some(found) = documents::read::<PublicAccessBlockConfiguration>(&settings, name::PUBLIC_ACCESS)? else {
            let code = S3ErrorCode::Custom("NoSuchPublicAccessBlockConfiguration".into());
            let mut error = S3Error::with_message(code, "The public access block configuration was not found");
            error.set_status_code(hyper::StatusCode::NOT_FOUND);
            return Err(error);
        };
        // A client that asks wants all four, said or not.
        let on = |setting: Option<bool>| Some(setting == Some(true));
        Ok(S3Response::new(GetPublicAccessBlockOutput {
            public_access_block_configuration: Some(PublicAccessBlockConfiguration {
                block_public_acls: on(found.block_public_acls),
                block_public_policy: on(found.block_public_policy),
                ignore_public_acls: on(found.ignore_public_acls),
                restrict_public_buckets: on(found.restrict_public_buckets),
            }),
        }))
    }

    pub(super) async fn delete_block(
        &self,
        request: S3Request<DeletePublicAccessBlockInput>,
    ) -> S3Result<S3Response<DeletePublicAccessBlockOutput>> {
        self.cloud.set(&request.input.bucket, name::PUBLIC_ACCESS, None).await.map_err(fault)?;
        Ok(S3Response::new(DeletePublicAccessBlockOutput::default()))
    }

    pub(super) async fn put_ownership(
        &self,
        request: S3Request<PutBucketOwnershipControlsInput>,
    ) -> S3Result<S3Response<PutBucketOwnershipControlsOutput>> {
        let input = request.input;
        let rules = &input.ownership_controls.rules;
        if rules.len() != 1 {
            return Err(s3_error!(MalformedXML, "There is one rule, found {}.", rules.len()));
        }
        check_ownership(rules[0].object_ownership.as_str())?;
        let guard = self.guard(&input.bucket).await?;
        let is_open = guard.acl.as_ref().is_some_and(|acl| !acl.is_private(&guard.owner));
        if Ownership::of(&input.ownership_controls) == Ownership::Enforced && is_open {
            return Err(s3_error!(
                InvalidBucketAclWithObjectOwnership,
                "The bucket's access list grants something to others: make it private first."
            ));
        }
        let document = documents::write(&input.ownership_controls)?;
        self.cloud.set(&input.bucket, name::OWNERSHIP, Some(document)).await.map_err(fault)?;
        Ok(S3Response::new(PutBucketOwnershipControlsOutput::default()))
    }

    pub(super) async fn get_ownership(
        &self,
        request: S3Request<GetBucketOwnershipControlsInput>,
    ) -> S3Result<S3Response<GetBucketOwnershipControlsOutput>> {
        let settings = self.cloud.settings(&request.input.bucket).await.map_err(fault)?;
        let found = documents::read::<OwnershipControls>(&settings, name::OWNERSHIP)?;
        let found = found
            .ok_or_else(|| s3_error!(OwnershipControlsNotFoundError, "The bucket ownership controls were not found"))?;
        Ok(S3Response::new(GetBucketOwnershipControlsOutput { ownership_controls: Some(found) }))
    }

    pub(super) async fn delete_ownership(
        &self,
        request: S3Request<DeleteBucketOwnershipControlsInput>,
    ) -> S3Result<S3Response<DeleteBucketOwnershipControlsOutput>> {
        self.cloud.set(&request.input.bucket, name::OWNERSHIP, None).await.map_err(fault)?;
        Ok(S3Response::new(DeleteBucketOwnershipControlsOutput::default()))
    }
}

pub(super) fn check_ownership(name: &str) -> S3Result<()> {
    match name {
        "BucketOwnerEnforced" | "BucketOwnerPreferred" | "ObjectWriter" => Ok(()),
        found => Err(s3_error!(InvalidArgument, "There is no object ownership {found:?}")),
    }
}

fn version(text: Option<&str>) -> S3Result<Option<hodei_sdk::index::Version>> {
    let version = text.map(str::parse).transpose();
    version.map_err(|_| s3_error!(InvalidArgument, "Invalid version id specified: {}", text.unwrap_or("")))
}

fn no_such(is_versioned: bool, key: &str) -> S3Error {
    if is_versioned {
        return s3_error!(NoSuchVersion, "The specified version does not exist: {key}");
    }
    s3_error!(NoSuchKey, "The specified key does not exist: {key}")
}
