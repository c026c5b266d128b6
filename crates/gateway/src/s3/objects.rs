//! Answer S3's operations from buckets of the cloud: here is which does what.

use super::{
    fault::fault,
    keys::Keyring,
    lifecycle::{Calendar, Lifecycles},
    quota::Underway,
    uploads::Uploads,
};
use hodei_sdk::{Local, plan::Wish};
use s3s::{S3, S3Request, S3Response, S3Result, s3_error};

/// The S3 view of one identity's buckets.
#[derive(Clone)]
pub struct Objects {
    pub(super) cloud: Local,
    pub(super) uploads: Uploads,
    pub(super) underway: Underway,
    /// Who may use them.
    pub(super) keyring: Keyring,
    /// What a bucket made through this door shall be; it is paid from the identity's budget.
    pub(super) wish: Wish,
    pub(super) lifecycles: Lifecycles,
}

impl Objects {
    pub fn new(cloud: Local, wish: Wish, keyring: Keyring) -> Self {
        Self {
            cloud,
            uploads: Uploads::default(),
            underway: Underway::default(),
            keyring,
            wish,
            lifecycles: Lifecycles::default(),
        }
    }

    /// With days of lifecycles as long as this calendar says.
    #[must_use]
    pub fn counting(self, calendar: Calendar) -> Self {
        Self { lifecycles: Lifecycles::new(calendar), ..self }
    }

    pub(super) async fn must_exist(&self, bucket: &str) -> S3Result<()> {
        match self.cloud.bucket(bucket).await.map_err(fault)? {
            Some(_) => Ok(()),
            None => Err(s3_error!(NoSuchBucket, "The specified bucket does not exist: {bucket}")),
        }
    }
}

/// Each operation, and the method that does it. What has no line answers `NotImplemented`.
macro_rules! operations {
    ($($operation:ident($input:ident) -> $output:ident, $method:ident;)+) => {
        #[async_trait::async_trait]
        impl S3 for Objects {
            $(async fn $operation(&self, request: S3Request<s3s::dto::$input>) -> S3Result<S3Response<s3s::dto::$output>> {
                self.$method(request).await
            })+
        }
    };
}

operations! {
    list_buckets(ListBucketsInput) -> ListBucketsOutput, own_buckets;
    create_bucket(CreateBucketInput) -> CreateBucketOutput, make_bucket;
    head_bucket(HeadBucketInput) -> HeadBucketOutput, bucket_there;
    get_bucket_location(GetBucketLocationInput) -> GetBucketLocationOutput, bucket_location;
    delete_bucket(DeleteBucketInput) -> DeleteBucketOutput, end_bucket;
    list_objects(ListObjectsInput) -> ListObjectsOutput, list;
    list_objects_v2(ListObjectsV2Input) -> ListObjectsV2Output, list_v2;
    list_object_versions(ListObjectVersionsInput) -> ListObjectVersionsOutput, list_versions;
    put_object(PutObjectInput) -> PutObjectOutput, put;
    copy_object(CopyObjectInput) -> CopyObjectOutput, copy;
    get_object(GetObjectInput) -> GetObjectOutput, get;
    head_object(HeadObjectInput) -> HeadObjectOutput, head;
    get_object_attributes(GetObjectAttributesInput) -> GetObjectAttributesOutput, attributes;
    delete_object(DeleteObjectInput) -> DeleteObjectOutput, delete;
    delete_objects(DeleteObjectsInput) -> DeleteObjectsOutput, delete_many;
    get_object_tagging(GetObjectTaggingInput) -> GetObjectTaggingOutput, tags;
    put_object_tagging(PutObjectTaggingInput) -> PutObjectTaggingOutput, tag;
    delete_object_tagging(DeleteObjectTaggingInput) -> DeleteObjectTaggingOutput, untag;
    create_multipart_upload(CreateMultipartUploadInput) -> CreateMultipartUploadOutput, begin;
    upload_part(UploadPartInput) -> UploadPartOutput, upload;
    upload_part_copy(UploadPartCopyInput) -> UploadPartCopyOutput, upload_copy;
    complete_multipart_upload(CompleteMultipartUploadInput) -> CompleteMultipartUploadOutput, complete;
    abort_multipart_upload(AbortMultipartUploadInput) -> AbortMultipartUploadOutput, abort;
    list_parts(ListPartsInput) -> ListPartsOutput, parts;
    list_multipart_uploads(ListMultipartUploadsInput) -> ListMultipartUploadsOutput, list_uploads;
    get_bucket_versioning(GetBucketVersioningInput) -> GetBucketVersioningOutput, versioning;
    put_bucket_versioning(PutBucketVersioningInput) -> PutBucketVersioningOutput, set_versioning;
    get_object_lock_configuration(GetObjectLockConfigurationInput) -> GetObjectLockConfigurationOutput, lock_rule;
    put_object_lock_configuration(PutObjectLockConfigurationInput) -> PutObjectLockConfigurationOutput, set_lock_rule;
    get_object_retention(GetObjectRetentionInput) -> GetObjectRetentionOutput, retention;
    put_object_retention(PutObjectRetentionInput) -> PutObjectRetentionOutput, retain;
    get_object_legal_hold(GetObjectLegalHoldInput) -> GetObjectLegalHoldOutput, legal_hold;
    put_object_legal_hold(PutObjectLegalHoldInput) -> PutObjectLegalHoldOutput, set_legal_hold;
    put_bucket_policy(PutBucketPolicyInput) -> PutBucketPolicyOutput, put_policy;
    get_bucket_policy(GetBucketPolicyInput) -> GetBucketPolicyOutput, get_policy;
    delete_bucket_policy(DeleteBucketPolicyInput) -> DeleteBucketPolicyOutput, delete_policy;
    get_bucket_policy_status(GetBucketPolicyStatusInput) -> GetBucketPolicyStatusOutput, policy_status;
    put_bucket_acl(PutBucketAclInput) -> PutBucketAclOutput, put_bucket_list;
    get_bucket_acl(GetBucketAclInput) -> GetBucketAclOutput, get_bucket_list;
    put_object_acl(PutObjectAclInput) -> PutObjectAclOutput, put_object_list;
    get_object_acl(GetObjectAclInput) -> GetObjectAclOutput, get_object_list;
    put_public_access_block(PutPublicAccessBlockInput) -> PutPublicAccessBlockOutput, put_block;
    get_public_access_block(GetPublicAccessBlockInput) -> GetPublicAccessBlockOutput, get_block;
    delete_public_access_block(DeletePublicAccessBlockInput) -> DeletePublicAccessBlockOutput, delete_block;
    put_bucket_ownership_controls(PutBucketOwnershipControlsInput) -> PutBucketOwnershipControlsOutput, put_ownership;
    get_bucket_ownership_controls(GetBucketOwnershipControlsInput) -> GetBucketOwnershipControlsOutput, get_ownership;
    delete_bucket_ownership_controls(DeleteBucketOwnershipControlsInput) -> DeleteBucketOwnershipControlsOutput, delete_ownership;
    put_bucket_cors(PutBucketCorsInput) -> PutBucketCorsOutput, put_cors;
    get_bucket_cors(GetBucketCorsInput) -> GetBucketCorsOutput, get_cors;
    delete_bucket_cors(DeleteBucketCorsInput) -> DeleteBucketCorsOutput, delete_cors;
    put_bucket_tagging(PutBucketTaggingInput) -> PutBucketTaggingOutput, tag_bucket;
    get_bucket_tagging(GetBucketTaggingInput) -> GetBucketTaggingOutput, bucket_tags;
    delete_bucket_tagging(DeleteBucketTaggingInput) -> DeleteBucketTaggingOutput, untag_bucket;
    put_bucket_website(PutBucketWebsiteInput) -> PutBucketWebsiteOutput, put_website;
    get_bucket_website(GetBucketWebsiteInput) -> GetBucketWebsiteOutput, get_website;
    delete_bucket_website(DeleteBucketWebsiteInput) -> DeleteBucketWebsiteOutput, delete_website;
    put_bucket_encryption(PutBucketEncryptionInput) -> PutBucketEncryptionOutput, put_encryption;
    get_bucket_encryption(GetBucketEncryptionInput) -> GetBucketEncryptionOutput, get_encryption;
    delete_bucket_encryption(DeleteBucketEncryptionInput) -> DeleteBucketEncryptionOutput, delete_encryption;
    put_bucket_lifecycle_configuration(PutBucketLifecycleConfigurationInput) -> PutBucketLifecycleConfigurationOutput, put_lifecycle;
    get_bucket_lifecycle_configuration(GetBucketLifecycleConfigurationInput) -> GetBucketLifecycleConfigurationOutput, get_lifecycle;
    delete_bucket_lifecycle(DeleteBucketLifecycleInput) -> DeleteBucketLifecycleOutput, delete_lifecycle;
    put_bucket_request_payment(PutBucketRequestPaymentInput) -> PutBucketRequestPaymentOutput, put_payment;
    get_bucket_request_payment(GetBucketRequestPaymentInput) -> GetBucketRequestPaymentOutput, get_payment;
    put_bucket_logging(PutBucketLoggingInput) -> PutBucketLoggingOutput, put_logging;
    get_bucket_logging(GetBucketLoggingInput) -> GetBucketLoggingOutput, get_logging;
    put_bucket_notification_configuration(PutBucketNotificationConfigurationInput) -> PutBucketNotificationConfigurationOutput, put_notification;
    get_bucket_notification_configuration(GetBucketNotificationConfigurationInput) -> GetBucketNotificationConfigurationOutput, get_notification;
}
