"""Ask a gateway for every S3 operation, and hold docs/s3.md to the answers.

Usage: s3_table.py DOCUMENT DOORS.json [--write]

An operation is asked for with the least it requires, on a bucket and an object of the probe's own. Whatever the answer,
it is built unless it is NotImplemented or MethodNotAllowed, or the framework took it for another operation.
"""
import datetime
import json
import os
import pathlib
import re
import sys

import boto3
from botocore import xform_name
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

BEGIN, END = "<!-- operations: made by tests/clients/s3-table -->", "<!-- end of operations -->"
# What is built but not all of it: the operation, and what is missing.
PARTLY = {
    "CreateBucket": "the location is not looked at: where data lies follows from the bucket's plan",
    "PutBucketLifecycleConfiguration": "no transitions: a bucket has one storage class",
    "PutObject": "append (`x-amz-write-offset-bytes`) is refused",
    "PutBucketLifecycle": "the old form of PutBucketLifecycleConfiguration",
    "PutBucketEncryption": "AES256; no keys of a key service",
    "PutBucketLogging": "only to say that there is none: the access log is the gateway's own",
    "PutBucketNotificationConfiguration": "only to say that there is none",
    "PutBucketNotification": "only to say that there is none",
    "PutBucketRequestPayment": "the owner pays, never the requester",
    "GetBucketLocation": "always empty, which clients read as us-east-1",
}
# Why an operation is not there.
ABSENT = [
    (r"Analytics|Inventory|Metrics|IntelligentTiering", "reports and tiers of Amazon's own"),
    (r"Accelerate", "there is no network of Amazon's to enter"),
    (r"Replication", "copies and their places are the bucket's plan"),
    (r"Metadata(Table)?Configuration|InventoryTable|JournalTable|AnnotationTable|Annotation", "tables of Amazon's own"),
    (r"RestoreObject", "nothing is ever archived out of reach"),
    (r"SelectObjectContent", "read the object, then ask"),
    (r"Torrent", "given up by Amazon too"),
    (r"CreateSession|DirectoryBucket|RenameObject", "for Amazon's directory buckets"),
    (r"WriteGetObjectResponse", "functions run elsewhere"),
    (r"Abac", "tags grant nothing"),
    (r"UpdateObjectEncryption", "an object is put again to change its key"),
]
# Not required by the client's model, but without them a request is malformed and never reaches its operation.
ALSO = {
    "LegalHold": {"Status": "ON"},
    "Retention": {"Mode": "GOVERNANCE", "RetainUntilDate": datetime.datetime(2040, 1, 1, tzinfo=datetime.timezone.utc)},
    "MultipartUpload": {"Parts": [{"ETag": "probe", "PartNumber": 1}]},
    "ObjectLockConfiguration": {"ObjectLockEnabled": "Enabled"},
    "RestoreRequest": {"Days": 1},
    "ServerSideEncryptionConfiguration": {"Rules": [{"ApplyServerSideEncryptionByDefault": {"SSEAlgorithm": "AES256"}}]},
    "VersioningConfiguration": {"Status": "Suspended"},
    "OwnershipControls": {"Rules": [{"ObjectOwnership": "ObjectWriter"}]},
    "PublicAccessBlockConfiguration": {"BlockPublicAcls": False},
    "LifecycleConfiguration": {"Rules": [{"Expiration": {"Days": 9}, "Prefix": "x/", "Status": "Enabled"}]},
    "WebsiteConfiguration": {"IndexDocument": {"Suffix": "index.html"}},
    "CORSConfiguration": {"CORSRules": [{"AllowedMethods": ["GET"], "AllowedOrigins": ["*"]}]},
    "Tagging": {"TagSet": [{"Key": "a", "Value": "b"}]},
    "RequestPaymentConfiguration": {"Payer": "BucketOwner"},
    "BucketLoggingStatus": {},
    "NotificationConfiguration": {},
    "ACL": "private",
}
# Removals come last, the bucket's own at the very end.
ORDER = {"CreateBucket": 0, "PutObject": 1, "DeleteObject": 8, "DeleteObjects": 8, "PutBucketVersioning": 9, "DeleteBucket": 10}


def least(shape, name, given):
    """A value of this shape with nothing in it that is not required."""
    if name in given:
        return given[name]
    if shape.type_name == "structure":
        return {member: least(shape.members[member], member, given) for member in shape.required_members}
    if shape.type_name == "list":
        return [least(shape.member, name, given)]
    if shape.type_name == "map":
        return {}
    if shape.type_name == "timestamp":
        return datetime.datetime(2030, 1, 1, tzinfo=datetime.timezone.utc)
    if shape.type_name in ("integer", "long"):
        return 1
    if shape.type_name == "boolean":
        return False
    if shape.type_name == "blob":
        return b""
    return shape.enum[0] if getattr(shape, "enum", None) else "probe"


def ask(s3, name, bucket):
    """Whether the gateway knows the operation; the code it answered with."""
    operation = s3.meta.service_model.operation_model(name)
    given = {"Bucket": bucket, "Key": "probe", "CopySource": f"{bucket}/probe", "Prefix": "probe/"}
    arguments = least(operation.input_shape, "", given) if operation.input_shape else {}
    if operation.input_shape:
        members = operation.input_shape.members
        # A name may be a document here and a header there.
        arguments |= {also: value for also, value in ALSO.items()
                      if also in members and (members[also].type_name == "structure" or also == "ACL" and name == "PutBucketAcl")}
    try:
        getattr(s3, xform_name(name))(**arguments)
        return True, "200"
    except ClientError as error:
        code = error.response["Error"]["Code"]
        status = error.response["ResponseMetadata"]["HTTPStatusCode"]
        if code == "MalformedXML":
            sys.exit(f"not ok s3-table: {name} was not understood, so it is not known: complete its request in ALSO")
        return not (code in ("NotImplemented", "MethodNotAllowed") or status in (405, 501)), code
    except (BotoCoreError, AttributeError) as error:
        return False, type(error).__name__


def table(s3):
    """Lines of the table, one for each operation."""
    bucket = "probe-" + os.urandom(4).hex()
    names = sorted(s3.meta.service_model.operation_names, key=lambda name: (ORDER.get(name, 5), name))
    known = {}
    for name in names:
        reason = next((reason for pattern, reason in ABSENT if re.search(pattern, name)), None)
        if reason:
            known[name] = (False, reason)
            continue
        is_known, code = ask(s3, name, bucket)
        known[name] = (is_known, "" if is_known else "not built")
        print(f"{name}: {code}", file=sys.stderr)
    lines = ["| Operation | | |", "|---|---|---|"]
    for name, (is_known, reason) in sorted(known.items()):
        word = "partly" if is_known and name in PARTLY else "yes" if is_known else "no"
        lines.append(f"| {name} | {word} | {PARTLY.get(name, '') if is_known else reason} |")
    yes = sum(is_known for is_known, _ in known.values())
    return [f"{yes} of the {len(known)} operations that Amazon's client of this version knows.", ""] + lines


def main():
    document, doors = pathlib.Path(sys.argv[1]), json.loads(pathlib.Path(sys.argv[2]).read_text())["s3"]
    s3 = boto3.client("s3", endpoint_url=doors["endpoint"], aws_access_key_id=doors["access_key_id"],
                      aws_secret_access_key=doors["secret_access_key"], region_name="us-east-1",
                      config=Config(s3={"addressing_style": "path"}, inject_host_prefix=False, retries={"max_attempts": 1}))
    lines = table(s3)
    text = document.read_text()
    before, rest = text.split(BEGIN)
    said, after = rest.split(END)
    if sys.argv[3:] == ["--write"]:
        document.write_text(before + BEGIN + "\n" + "\n".join(lines) + "\n" + END + after)
        return
    said = said.strip().split("\n")
    wrong = [line for line in said if line not in lines] + [line for line in lines if line not in said]
    for line in wrong:
        print(f"not ok s3-table: {'found' if line in lines else 'in the document'}: {line}")
    if not wrong:
        print(f"ok s3-table: the document says of {len(lines) - 4} operations what the gateway does")
    sys.exit(bool(wrong))


if __name__ == "__main__":
    main()
