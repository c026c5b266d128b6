//! Say what each operation asks for, in the words of policies and access lists.

use super::acl::Permission;

/// What an operation is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Target {
    /// All buckets, or one not yet made.
    Service,
    Bucket,
    Object,
}

/// What an operation asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Action {
    /// As policies name it.
    pub(super) name: &'static str,
    pub(super) target: Target,
    /// The permission of an access list that is as good, and whose list that is.
    pub(super) granted: Option<(Target, Permission)>,
    /// It changes nothing.
    pub(super) reads: bool,
    /// What is asked is only known from the body: judged once that was read.
    pub(super) waits: bool,
}

const fn of(name: &'static str, target: Target) -> Action {
    Action { name, target, granted: None, reads: false, waits: false }
}

const fn read(name: &'static str, target: Target) -> Action {
    Action { name, target, granted: None, reads: true, waits: false }
}

impl Action {
    const fn as_good(self, list: Target, permission: Permission) -> Self {
        Self { granted: Some((list, permission)), ..self }
    }

    const fn waits(self) -> Self {
        Self { waits: true, ..self }
    }

    /// Of the framework's operation. What has no line here is of the bucket's owner alone, whatever a policy
    /// says, so that an operation nobody thought of is closed. `is_versioned`: one version is named.
    pub(super) fn of(operation: &str, is_versioned: bool) -> Self {
        use Permission::{Read, ReadAcp, Write, WriteAcp};
        use Target::{Bucket, Object, Service};
        let pick = |plain, version| if is_versioned { version } else { plain };
        match operation {
            "ListBuckets" | "ListDirectoryBuckets" => read("s3:ListAllMyBuckets", Service),
            "CreateBucket" => of("s3:CreateBucket", Service),
            "DeleteBucket" => of("s3:DeleteBucket", Bucket),
            "HeadBucket" | "ListObjects" | "ListObjectsV2" => read("s3:ListBucket", Bucket).as_good(Bucket, Read),
            "ListObjectVersions" => read("s3:ListBucketVersions", Bucket).as_good(Bucket, Read),
            "ListMultipartUploads" => read("s3:ListBucketMultipartUploads", Bucket).as_good(Bucket, Read),
            "GetBucketLocation" => read("s3:GetBucketLocation", Bucket).as_good(Bucket, Read),
            "GetBucketAcl" => read("s3:GetBucketAcl", Bucket).as_good(Bucket, ReadAcp),
            "PutBucketAcl" => of("s3:PutBucketAcl", Bucket).as_good(Bucket, WriteAcp),
            "GetBucketPolicy" => read("s3:GetBucketPolicy", Bucket),
            "PutBucketPolicy" => of("s3:PutBucketPolicy", Bucket),
            "DeleteBucketPolicy" => of("s3:DeleteBucketPolicy", Bucket),
            "GetBucketPolicyStatus" => read("s3:GetBucketPolicyStatus", Bucket),
            "GetBucketCors" => read("s3:GetBucketCORS", Bucket),
            "PutBucketCors" | "DeleteBucketCors" => of("s3:PutBucketCORS", Bucket),
            "GetBucketTagging" => read("s3:GetBucketTagging", Bucket),
            "PutBucketTagging" | "DeleteBucketTagging" => of("s3:PutBucketTagging", Bucket),
            "GetBucketWebsite" => read("s3:GetBucketWebsite", Bucket),
            "PutBucketWebsite" => of("s3:PutBucketWebsite", Bucket),
            "DeleteBucketWebsite" => of("s3:DeleteBucketWebsite", Bucket),
            "GetBucketVersioning" => read("s3:GetBucketVersioning", Bucket),
            "PutBucketVersioning" => of("s3:PutBucketVersioning", Bucket),
            "GetBucketLifecycleConfiguration" => read("s3:GetLifecycleConfiguration", Bucket),
            "PutBucketLifecycleConfiguration" | "DeleteBucketLifecycle" => of("s3:PutLifecycleConfiguration", Bucket),
            "GetBucketEncryption" => read("s3:GetEncryptionConfiguration", Bucket),
            "PutBucketEncryption" | "DeleteBucketEncryption" => of("s3:PutEncryptionConfiguration", Bucket),
            "GetBucketOwnershipControls" => read("s3:GetBucketOwnershipControls", Bucket),
            "PutBucketOwnershipControls" | "DeleteBucketOwnershipControls" => {
                of("s3:PutBucketOwnershipControls", Bucket)
            }
            "GetPublicAccessBlock" => read("s3:GetBucketPublicAccessBlock", Bucket),
            "PutPublicAccessBlock" | "DeletePublicAccessBlock" => of("s3:PutBucketPublicAccessBlock", Bucket),
            "GetBucketRequestPayment" => read("s3:GetBucketRequestPayment", Bucket),
            "PutBucketRequestPayment" => of("s3:PutBucketRequestPayment", Bucket),
            "GetBucketLogging" => read("s3:GetBucketLogging", Bucket),
            "PutBucketLogging" => of("s3:PutBucketLogging", Bucket),
            "GetBucketNotificationConfiguration" => read("s3:GetBucketNotification", Bucket),
            "PutBucketNotificationConfiguration" => of("s3:PutBucketNotification", Bucket),
            "GetObjectLockConfiguration" => read("s3:GetBucketObjectLockConfiguration", Bucket),
            "PutObjectLockConfiguration" => of("s3:PutBucketObjectLockConfiguration", Bucket),
            "GetObject" | "HeadObject" | "GetObjectAttributes" | "SelectObjectContent" => {
                read(pick("s3:GetObject", "s3:GetObjectVersion"), Object).as_good(Object, Read)
            }
            "GetObjectAcl" => read(pick("s3:GetObjectAcl", "s3:GetObjectVersionAcl"), Object).as_good(Object, ReadAcp),
            "PutObjectAcl" => of(pick("s3:PutObjectAcl", "s3:PutObjectVersionAcl"), Object).as_good(Object, WriteAcp),
            "GetObjectTagging" => read(pick("s3:GetObjectTagging", "s3:GetObjectVersionTagging"), Object),
            "PutObjectTagging" => of(pick("s3:PutObjectTagging", "s3:PutObjectVersionTagging"), Object).waits(),
            "DeleteObjectTagging" => of(pick("s3:DeleteObjectTagging", "s3:DeleteObjectVersionTagging"), Object),
            "GetObjectRetention" => read("s3:GetObjectRetention", Object),
            "PutObjectRetention" => of("s3:PutObjectRetention", Object),
            "GetObjectLegalHold" => read("s3:GetObjectLegalHold", Object),
            "PutObjectLegalHold" => of("s3:PutObjectLegalHold", Object),
            "RestoreObject" => of("s3:RestoreObject", Object),
            "DeleteObject" => of(pick("s3:DeleteObject", "s3:DeleteObjectVersion"), Object).as_good(Bucket, Write),
            "PutObject"
            | "CopyObject"
            | "CreateMultipartUpload"
            | "UploadPart"
            | "UploadPartCopy"
            | "CompleteMultipartUpload" => of("s3:PutObject", Object).as_good(Bucket, Write),
            "AbortMultipartUpload" => of("s3:AbortMultipartUpload", Object).as_good(Bucket, Write),
            "ListParts" => read("s3:ListMultipartUploadParts", Object).as_good(Bucket, Write),
            // Each is judged for its own keys, which are in the body.
            "DeleteObjects" => of("s3:DeleteObject", Object).as_good(Bucket, Write).waits(),
            _ => of("hodei:Unknown", Bucket),
        }
    }

    /// Passing over a lock in governance mode.
    pub(super) fn bypass() -> Self {
        of("s3:BypassGovernanceRetention", Target::Object)
    }

    /// A rule of a policy cannot lock the owner out of the policy itself.
    pub(super) fn is_of_policy(&self) -> bool {
        matches!(self.name, "s3:GetBucketPolicy" | "s3:PutBucketPolicy" | "s3:DeleteBucketPolicy")
    }
}
