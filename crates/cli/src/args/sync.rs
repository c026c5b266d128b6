//! Read the commands that carry many objects at once.

use super::{Class, Plan};
use clap::Args;
use std::path::PathBuf;

#[derive(Args, Debug)]
pub(crate) struct DataSync {
    /// A folder, hodei://BUCKET/PREFIX, s3://BUCKET/PREFIX of another server, or s3:// for all its buckets.
    #[arg(value_name = "SOURCE")]
    pub(crate) from: String,
    /// hodei://BUCKET/PREFIX, a folder, or hodei:// with s3:// before it.
    #[arg(value_name = "TARGET")]
    pub(crate) to: String,
    /// Remove from the target what the source does not have.
    #[arg(long)]
    pub(crate) delete: bool,
    /// Compare bytes instead of size and time.
    #[arg(long)]
    pub(crate) checksum: bool,
    /// Objects carried at once; without it 8, and 64 of those below 64 KiB, which are then stored together.
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u8).range(1..=64))]
    pub(crate) parallel: Option<u8>,
    /// What kind of machines hold a bucket that has to be made.
    #[arg(long, value_enum, default_value_t = Class::Small)]
    pub(crate) class: Class,
    #[command(flatten)]
    pub(crate) server: Foreign,
    #[command(flatten)]
    pub(crate) plan: Plan,
}

/// Where another S3 server is. Its secret comes from the environment or a file, never from a flag.
#[derive(Args, Debug)]
pub(crate) struct Foreign {
    /// The other server, as https://minio.example:9000
    #[arg(long, value_name = "URL", env = "AWS_ENDPOINT_URL", help_heading = "Another S3 server")]
    pub(crate) endpoint: Option<String>,
    /// Its region.
    #[arg(
        long,
        value_name = "REGION",
        env = "AWS_REGION",
        default_value = "us-east-1",
        help_heading = "Another S3 server"
    )]
    pub(crate) region: String,
    /// Access key there; the secret is in AWS_SECRET_ACCESS_KEY, or in --secret-file.
    #[arg(long, value_name = "KEY", env = "AWS_ACCESS_KEY_ID", help_heading = "Another S3 server")]
    pub(crate) access_key: Option<String>,
    /// File whose first line is the secret key.
    #[arg(long, value_name = "FILE", help_heading = "Another S3 server")]
    pub(crate) secret_file: Option<PathBuf>,
    /// The bucket's name stands in the host's name, as at Amazon.
    #[arg(long, help_heading = "Another S3 server")]
    pub(crate) virtual_host: bool,
    /// Further certificates to believe, as PEM: the server's own, or that of who signed it.
    #[arg(long, value_name = "FILE", env = "AWS_CA_BUNDLE", help_heading = "Another S3 server")]
    pub(crate) ca: Option<PathBuf>,
}

#[derive(Args, Debug)]
pub(crate) struct DataExport {
    /// The bucket: a name, hodei://NAME, or hodei://NAME/PREFIX; hodei:// for all, each in a folder of its own.
    #[arg(value_name = "BUCKET")]
    pub(crate) bucket: String,
    /// The folder; what is in it already is compared and kept.
    #[arg(value_name = "FOLDER")]
    pub(crate) folder: PathBuf,
    /// Also older versions, below .hodei-versions.
    #[arg(long)]
    pub(crate) versions: bool,
    /// Objects written at once.
    #[arg(long, value_name = "COUNT", default_value_t = 4, value_parser = clap::value_parser!(u8).range(1..=64))]
    pub(crate) parallel: u8,
}
