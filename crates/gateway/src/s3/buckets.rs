//! Make buckets somebody's, and list one's own.

use super::{
    access::wanted,
    acl,
    documents::{self, name},
    fault::{fault, is_full, unplanned},
    keys::now_ms,
    names,
    objects::Objects,
    principal::Caller,
    rights::check_ownership,
    time::timestamp,
};
use hyper::header::HeaderValue;
use s3s::{
    S3Request, S3Response, S3Result,
    dto::{
        Bucket, CreateBucketInput, CreateBucketOutput, DeleteBucketInput, DeleteBucketOutput, GetBucketLocationInput,
        GetBucketLocationOutput, HeadBucketInput, HeadBucketOutput, ListBucketsInput, ListBucketsOutput,
        OwnershipControls, OwnershipControlsRule,
    },
    s3_error,
};
use std::collections::BTreeMap;

/// Buckets of one page, as at S3.
const BUCKETS_MAX: i32 = 10_000;

impl Objects {
    pub(super) async fn make_bucket(
        &self,
        request: S3Request<CreateBucketInput>,
    ) -> S3Result<S3Response<CreateBucketOutput>> {
        let bucket = request.input.bucket.clone();
        let location = Some(format!("/{bucket}"));
        names::check_new(&bucket)?;
        if self.cloud.bucket(&bucket).await.map_err(fault)?.is_some() {
            self.made_before(&request).await?;
            return Ok(S3Response::new(CreateBucketOutput { location }));
        }
        let mut documents = self.birth(&request)?;
        if request.input.object_lock_enabled_for_bucket == Some(true) {
            documents.push(("versioning".into(), Some("Enabled".into())));
            documents.push(("object-lock".into(), Some("on".into())));
        }
        let plan = match self.cloud.plan(&self.wish).await {
            Ok(plan) => plan,
            Err(error) => {
                let is_due = is_full(&error) && self.cloud.is_room_due().await.unwrap_or(false);
                return Err(unplanned(error, is_due));
            }
        };
        self.cloud.create_bucket(&bucket, &plan).await.map_err(fault)?;
        self.cloud.set_all(&bucket, documents).await.map_err(fault)?;
        Ok(S3Response::new(CreateBucketOutput { location }))
    }

    pub(super) async fn bucket_there(
        &self,
        request: S3Request<HeadBucketInput>,
    ) -> S3Result<S3Response<HeadBucketOutput>> {
        let bucket = &request.input.bucket;
        let record = self.cloud.bucket(bucket).await.map_err(fault)?;
        let record = record.ok_or_else(|| s3_error!(NoSuchBucket, "The specified bucket does not exist: {bucket}"))?;
        let mut response = S3Response::new(HeadBucketOutput::default());
        // As Ceph's clients ask and are answered.
        if request.uri.query().unwrap_or("").split('&').any(|pair| pair == "read-stats=true") {
            let usage = self.cloud.usage(&record).await.map_err(fault)?;
            response.headers.insert("x-rgw-object-count", HeaderValue::from(usage.objects));
            response.headers.insert("x-rgw-bytes-used", HeaderValue::from(usage.bytes));
        }
        Ok(response)
    }

    pub(super) async fn bucket_location(
        &self,
        request: S3Request<GetBucketLocationInput>,
    ) -> S3Result<S3Response<GetBucketLocationOutput>> {
        self.must_exist(&request.input.bucket).await?;
        Ok(S3Response::new(GetBucketLocationOutput::default()))
    }

    pub(super) async fn end_bucket(
        &self,
        request: S3Request<DeleteBucketInput>,
    ) -> S3Result<S3Response<DeleteBucketOutput>> {
        let bucket = request.input.bucket;
        self.cloud.delete_bucket(&bucket).await.map_err(fault)?;
        self.uploads.forget(&bucket);
        Ok(S3Response::new(DeleteBucketOutput::default()))
    }

    /// What a bucket says about itself when it is made: whose it is, since when, and for whom.
    pub(super) fn birth(&self, request: &S3Request<CreateBucketInput>) -> S3Result<Vec<(String, Option<String>)>> {
        let owner = owner(request).or_else(|| self.keyring.main().map(|main| main.id.clone()));
        let owner = owner.ok_or_else(|| s3_error!(AccessDenied, "Access Denied"))?;
        let wanted = wanted(&request.headers, &self.keyring)?;
        let mut documents = vec![(name::CREATED.to_owned(), Some(now_ms().to_string()))];
        if let Some(ownership) = &request.input.object_ownership {
            check_ownership(ownership.as_str())?;
            let rule = OwnershipControlsRule { object_ownership: ownership.clone() };
            let controls = OwnershipControls { rules: vec![rule] };
            if super::decide::Ownership::of(&controls) == super::decide::Ownership::Enforced && wanted.is_public() {
                return Err(s3_error!(InvalidBucketAclWithObjectOwnership, "The bucket does not allow access lists."));
            }
            documents.push((name::OWNERSHIP.to_owned(), Some(documents::write(&controls)?)));
        }
        if let Some(acl) = wanted.resolve(&owner, &owner) {
            documents.push((name::ACL.to_owned(), Some(acl.encode())));
        }
        documents.push((name::OWNER.to_owned(), Some(owner)));
        Ok(documents)
    }

    /// The answer where the bucket is there already: made by the same one in the same way it is as good as made.
    pub(super) async fn made_before(&self, request: &S3Request<CreateBucketInput>) -> S3Result<()> {
        let bucket = &request.input.bucket;
        let taken = || s3_error!(BucketAlreadyExists, "The requested bucket name is not available: {bucket}");
        let settings = self.cloud.settings(bucket).await.map_err(fault)?;
        let wish: BTreeMap<String, String> =
            self.birth(request)?.into_iter().filter_map(|(name, document)| Some((name, document?))).collect();
        let owner = settings.get(name::OWNER).cloned().or_else(|| self.keyring.main().map(|main| main.id.clone()));
        let is_same = owner.as_ref() == wish.get(name::OWNER) && settings.get(name::ACL) == wish.get(name::ACL);
        if is_same { Ok(()) } else { Err(taken()) }
    }

    pub(super) async fn own_buckets(
        &self,
        request: S3Request<ListBucketsInput>,
    ) -> S3Result<S3Response<ListBucketsOutput>> {
        let input = &request.input;
        let max = input.max_buckets.unwrap_or(BUCKETS_MAX);
        if !(1..=BUCKETS_MAX).contains(&max) {
            return Err(s3_error!(InvalidArgument, "MaxBuckets must be from 1 to {BUCKETS_MAX}, found {max}"));
        }
        let caller = request.extensions.get::<Caller>().cloned().unwrap_or_default();
        let Some(principal) = &caller.principal else {
            return Ok(S3Response::new(ListBucketsOutput {
                buckets: Some(Vec::new()),
                ..ListBucketsOutput::default()
            }));
        };
        let main = self.keyring.main();
        let is_main = main.is_some_and(|main| main.id == principal.id);
        let prefix = input.prefix.as_deref().unwrap_or("");
        let after = input.continuation_token.as_deref().unwrap_or("");
        let mut buckets = Vec::new();
        let mut last = None;
        for (record, settings) in self.cloud.buckets_with_settings().await.map_err(fault)? {
            let name = record.name;
            if !name.starts_with(prefix) || name.as_str() <= after {
                continue;
            }
            if !settings.get(name::OWNER).map_or(is_main, |owner| *owner == principal.id) {
                continue;
            }
            if !caller.scope.reaches(&name) {
                continue;
            }
            if buckets.len() == max as usize {
                last = buckets.last().and_then(|bucket: &Bucket| bucket.name.clone());
                break;
            }
            let created = settings.get(name::CREATED).and_then(|created| created.parse().ok());
            buckets.push(Bucket { creation_date: created.map(timestamp), name: Some(name), ..Bucket::default() });
        }
        Ok(S3Response::new(ListBucketsOutput {
            buckets: Some(buckets),
            continuation_token: last,
            owner: Some(acl::owner_of(principal)),
            prefix: request.input.prefix,
        }))
    }
}

fn owner(request: &S3Request<CreateBucketInput>) -> Option<String> {
    Some(request.extensions.get::<Caller>()?.id()?.to_owned())
}
