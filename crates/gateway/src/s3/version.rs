//! Keep a bucket's versions, and name them as S3 does.

use super::{fault::fault, objects::Objects};
use hodei_sdk::{
    change::{VERSIONING, Versioning},
    index::Version,
};
use s3s::{
    S3Request, S3Response, S3Result,
    dto::{
        BucketVersioningStatus, GetBucketVersioningInput, GetBucketVersioningOutput, MFADelete,
        PutBucketVersioningInput, PutBucketVersioningOutput,
    },
    s3_error,
};

/// A version's id as a client sends it.
pub(super) fn parse(text: &str) -> S3Result<Version> {
    text.parse().map_err(|_| s3_error!(InvalidArgument, "Invalid version id specified"))
}

/// A version's id as it is answered: where there never were versions, none.
pub(super) fn told(version: Version, versioning: Versioning) -> Option<String> {
    (version != Version::Null || versioning != Versioning::Off).then(|| version.to_string())
}

/// The id of what was just put: where versions are suspended it is put as none of its own, and none is told, as at S3.
pub(super) fn made(version: Version) -> Option<String> {
    (version != Version::Null).then(|| version.to_string())
}

impl Objects {
    pub(super) async fn versioning(
        &self,
        request: S3Request<GetBucketVersioningInput>,
    ) -> S3Result<S3Response<GetBucketVersioningOutput>> {
        let settings = self.cloud.settings(&request.input.bucket).await.map_err(fault)?;
        let status = settings.get(VERSIONING).map(|text| BucketVersioningStatus::from(text.clone()));
        Ok(S3Response::new(GetBucketVersioningOutput { status, mfa_delete: None }))
    }

    pub(super) async fn set_versioning(
        &self,
        request: S3Request<PutBucketVersioningInput>,
    ) -> S3Result<S3Response<PutBucketVersioningOutput>> {
        let input = request.input;
        let asked = input.versioning_configuration;
        if asked.mfa_delete.as_ref().is_some_and(|mfa| mfa.as_str() == MFADelete::ENABLED) {
            return Err(s3_error!(NotImplemented, "MFA delete is not supported."));
        }
        let status = asked.status.as_ref().map(BucketVersioningStatus::as_str);
        let Some(status @ ("Enabled" | "Suspended")) = status else {
            return Err(s3_error!(MalformedXML, "Versioning is Enabled or Suspended."));
        };
        self.cloud.set(&input.bucket, VERSIONING, Some(status.into())).await.map_err(fault)?;
        Ok(S3Response::new(PutBucketVersioningOutput {}))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_told_where_versions_are_kept() {
        assert_eq!(told(Version::Null, Versioning::Off), None);
        assert_eq!(told(Version::Null, Versioning::Suspended).as_deref(), Some("null"));
        let id = Version::Id([0xab; 16]);
        assert_eq!((made(Version::Null), made(id)), (None, Some(id.to_string())));
        assert_eq!(parse(&told(id, Versioning::Enabled).unwrap()).unwrap(), id);
        assert_eq!(parse("other").unwrap_err().code().as_str(), "InvalidArgument");
    }
}
