//! Know the words policies are written in, so that a slip of the pen is refused when a policy is set.
//!
//! A denial of an action nobody asks for, or under a key no request has, would protect nothing and look as if it did.
//! The words are Amazon's, also those of what is not offered here: a policy brought from there says what it said.

use super::super::wildcard::Pattern;

/// Amazon's actions of S3.
const ACTIONS: &str = "
AbortMultipartUpload AssociateAccessGrantsIdentityCenter BypassGovernanceRetention CreateAccessGrant
CreateAccessGrantsInstance CreateAccessGrantsLocation CreateAccessPoint CreateAccessPointForObjectLambda CreateBucket
CreateBucketMetadataTableConfiguration CreateJob CreateMultiRegionAccessPoint CreateStorageLensGroup
DeleteAccessGrant DeleteAccessGrantsInstance DeleteAccessGrantsInstanceResourcePolicy DeleteAccessGrantsLocation
DeleteAccessPoint DeleteAccessPointForObjectLambda DeleteAccessPointPolicy DeleteAccessPointPolicyForObjectLambda
DeleteBucket DeleteBucketMetadataTableConfiguration DeleteBucketOwnershipControls DeleteBucketPolicy
DeleteBucketWebsite DeleteJobTagging DeleteMultiRegionAccessPoint DeleteObject DeleteObjectAnnotation
DeleteObjectTagging DeleteObjectVersion DeleteObjectVersionAnnotation DeleteObjectVersionTagging
DeleteStorageLensConfiguration DeleteStorageLensConfigurationTagging DeleteStorageLensGroup DescribeJob
DescribeMultiRegionAccessPointOperation DissociateAccessGrantsIdentityCenter GetAccelerateConfiguration
GetAccessGrant GetAccessGrantsInstance GetAccessGrantsInstanceForPrefix GetAccessGrantsInstanceResourcePolicy
GetAccessGrantsLocation GetAccessPoint GetAccessPointConfigurationForObjectLambda GetAccessPointForObjectLambda
GetAccessPointPolicy GetAccessPointPolicyForObjectLambda GetAccessPointPolicyStatus
GetAccessPointPolicyStatusForObjectLambda GetAccountPublicAccessBlock GetAnalyticsConfiguration GetBucketAbac
GetBucketAcl GetBucketCORS GetBucketLocation GetBucketLogging GetBucketMetadataTableConfiguration
GetBucketNotification GetBucketObjectLockConfiguration GetBucketOwnershipControls GetBucketPolicy
GetBucketPolicyStatus GetBucketPublicAccessBlock GetBucketRequestPayment GetBucketTagging GetBucketVersioning
GetBucketWebsite GetDataAccess GetEncryptionConfiguration GetIntelligentTieringConfiguration
GetInventoryConfiguration GetJobTagging GetLifecycleConfiguration GetMetricsConfiguration GetMultiRegionAccessPoint
GetMultiRegionAccessPointPolicy GetMultiRegionAccessPointPolicyStatus GetMultiRegionAccessPointRoutes GetObject
GetObjectAcl GetObjectAnnotation GetObjectAttributes GetObjectLegalHold GetObjectRetention GetObjectTagging
GetObjectTorrent GetObjectVersion GetObjectVersionAcl GetObjectVersionAnnotation GetObjectVersionAttributes
GetObjectVersionForReplication GetObjectVersionTagging GetObjectVersionTorrent GetReplicationConfiguration
GetStorageLensConfiguration GetStorageLensConfigurationTagging GetStorageLensDashboard GetStorageLensGroup
InitiateReplication ListAccessGrants ListAccessGrantsInstances ListAccessGrantsLocations ListAccessPoints
ListAccessPointsForObjectLambda ListAllMyBuckets ListBucket ListBucketMultipartUploads ListBucketVersions
ListCallerAccessGrants ListJobs ListMultiRegionAccessPoints ListMultipartUploadParts ListObjectAnnotations
ListObjectVersionAnnotations ListStorageLensConfigurations ListStorageLensGroups ListTagsForResource
ObjectOwnerOverrideToBucketOwner PauseReplication PutAccelerateConfiguration PutAccessGrantsInstanceResourcePolicy
PutAccessPointConfigurationForObjectLambda PutAccessPointPolicy PutAccessPointPolicyForObjectLambda
PutAccessPointPublicAccessBlock PutAccountPublicAccessBlock PutAnalyticsConfiguration PutBucketAbac PutBucketAcl
PutBucketCORS PutBucketLogging PutBucketNotification PutBucketObjectLockConfiguration PutBucketOwnershipControls
PutBucketPolicy PutBucketPublicAccessBlock PutBucketRequestPayment PutBucketTagging PutBucketVersioning
PutBucketWebsite PutEncryptionConfiguration PutIntelligentTieringConfiguration PutInventoryConfiguration
PutJobTagging PutLifecycleConfiguration PutMetricsConfiguration PutMultiRegionAccessPointPolicy PutObject
PutObjectAcl PutObjectAnnotation PutObjectLegalHold PutObjectRetention PutObjectTagging PutObjectVersionAcl
PutObjectVersionAnnotation PutObjectVersionTagging PutReplicationConfiguration PutStorageLensConfiguration
PutStorageLensConfigurationTagging ReplicateDelete ReplicateObject ReplicateTags RestoreObject
SubmitMultiRegionAccessPointRoutes TagResource UntagResource UpdateAccessGrantsLocation
UpdateBucketMetadataInventoryTableConfiguration UpdateBucketMetadataJournalTableConfiguration UpdateJobPriority
UpdateJobStatus UpdateObjectEncryption UpdateStorageLensGroup";

/// Keys of conditions, in lower case, without the word before the colon: of every service of Amazon's, and of S3.
const GLOBAL_KEYS: &str = "
assumedroot calledvia calledviafirst calledvialast chatbotsourcearn currenttime ec2instancesourceprivateipv4
ec2instancesourcevpc epochtime federatedprovider ismcpserviceaction multifactorauthage multifactorauthpresent
principalaccount principalarn principalisawsservice principalorgid principalorgpaths principalservicename
principalservicenameslist principaltype referer requestedregion resourceaccount resourceorgid resourceorgpaths
securetransport signinsessionarn sourceaccount sourcearn sourceidentity sourceip sourceorgid sourceorgpaths
sourcevpc sourcevpcarn sourcevpce tagkeys tokenissuetime useragent userid username viaawsmcpservice viaawsservice
vpceaccount vpceorgid vpceorgpaths vpcsourceip";
const KEYS: &str = "
accessgrantscope accessgrantsinstancearn accessgrantslocationscope accesspointnetworkorigin authtype
dataaccesspointaccount dataaccesspointarn delimiter destinationregion existingjoboperation existingjobpriority
if-match if-none-match inventoryaccessibleoptionalfields jobsuspendedcause locationconstraint max-keys
object-lock-legal-hold object-lock-mode object-lock-remaining-retention-days object-lock-retain-until-date
objectcreationoperation prefix requestjoboperation requestjobpriority requestobjecttagkeys resourceaccount
signatureage signatureversion tlsversion versionid";
/// Keys that end in a name of one's own: a tag's, or a header's.
const OPEN_KEYS: [&str; 8] = [
    "aws:principaltag/",
    "aws:requesttag/",
    "aws:resourcetag/",
    "s3:buckettag/",
    "s3:existingobjecttag/",
    "s3:requestobjecttag/",
    "s3:resourcetag/",
    "s3:accesspointtag/",
];
/// Headers of a put or a copy that conditions are about.
const HEADERS: &str = "
acl bucket-object-lock-enabled content-sha256 copy-source create-bucket-object-ownership grant-full-control
grant-read grant-read-acp grant-write grant-write-acp metadata-directive object-ownership
server-side-encryption server-side-encryption-aws-kms-key-id server-side-encryption-customer-algorithm
storage-class tagging tagging-directive website-redirect-location";

fn has(words: &str, word: &str) -> bool {
    words.split_ascii_whitespace().any(|known| known == word)
}

/// Whether an action, which may hold wildcards, is or matches one there is.
pub(super) fn is_action(pattern: &str) -> bool {
    let lower = pattern.to_ascii_lowercase();
    let Some(name) = lower.strip_prefix("s3:") else { return lower == "*" };
    let pattern = Pattern::new(name);
    ACTIONS.split_ascii_whitespace().any(|action| pattern.matches(&action.to_ascii_lowercase()))
}

/// Whether there is such a key; in lower case.
pub(super) fn is_key(key: &str) -> bool {
    match key.split_once(':') {
        _ if OPEN_KEYS.iter().any(|open| key.len() > open.len() && key.starts_with(open)) => true,
        Some(("aws", name)) => has(GLOBAL_KEYS, name),
        Some(("s3", name)) => has(KEYS, name) || name.strip_prefix("x-amz-").is_some_and(|header| has(HEADERS, header)),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_amazons_or_none() {
        for action in ["*", "s3:*", "S3:getobject", "s3:Get*", "s3:?etObject", "s3:BypassGovernanceRetention"] {
            assert!(is_action(action), "{action}");
        }
        for action in ["s3:Nope", "s3:GetObjekt", "s3:Delet*Objects", "ec2:*", "s3:"] {
            assert!(!is_action(action), "{action}");
        }
        for key in [
            "aws:sourceip",
            "s3:prefix",
            "s3:x-amz-acl",
            "s3:existingobjecttag/a",
            "s3:versionid",
            "aws:username",
            "s3:signatureversion",
        ] {
            assert!(is_key(key), "{key}");
        }
        for key in ["aws:sourceipp", "s3:perfix", "s3:x-amz-acls", "s3:existingobjecttag/", "referer", "x:y"] {
            assert!(!is_key(key), "{key}");
        }
    }

    #[test]
    fn what_operations_ask_for_is_known() {
        let source = include_str!("../action.rs");
        for name in source.split("\"s3:").skip(1).filter_map(|rest| rest.split('"').next()) {
            assert!(is_action(&format!("s3:{name}")), "{name}");
        }
    }
}
