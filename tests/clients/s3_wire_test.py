"""What Amazon's client does not send but pages and others do: forms, bodies without a length, senders that fall silent.

Usage: s3_wire_test.py ENDPOINT ACCESS_KEY_ID SECRET_ACCESS_KEY
"""
import base64
import datetime
import hashlib
import hmac
import http.client
import json
import os
import socket
import sys
import time
import urllib.parse
import zlib

import boto3
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.config import Config
from botocore.credentials import Credentials
from botocore.exceptions import ClientError

endpoint, key_id, secret = sys.argv[1:4]
place = urllib.parse.urlparse(endpoint)
s3 = boto3.client("s3", endpoint_url=endpoint, aws_access_key_id=key_id, aws_secret_access_key=secret,
                  region_name="us-east-1", config=Config(s3={"addressing_style": "path"}, retries={"max_attempts": 1}))
failed = 0


def check(name, holds):
    global failed
    failed += not holds
    print(("ok" if holds else "not ok"), "s3-wire", name, flush=True)


def code(call, **arguments):
    """The error code a call fails with; None if it succeeds."""
    try:
        call(**arguments)
        return None
    except ClientError as error:
        return error.response["Error"]["Code"]


def send(method, path, body, headers):
    """Status, headers and text of an answer."""
    connection = http.client.HTTPConnection(place.hostname, place.port, timeout=90)
    connection.request(method, path, body=body, headers=headers)
    answer = connection.getresponse()
    return answer.status, dict(answer.getheaders()), answer.read().decode()


def form(fields, file=b"bar", filename="a.txt"):
    """Sends a form as a browser does."""
    boundary = "x" + os.urandom(8).hex()
    parts = [f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n' for name, value in fields]
    head = f'--{boundary}\r\nContent-Disposition: form-data; name="file"; filename="{filename}"\r\nContent-Type: text/plain\r\n\r\n'
    body = ("".join(parts) + head).encode() + file + f"\r\n--{boundary}--\r\n".encode()
    return send("POST", f"/{bucket}", body, {"Content-Type": f"multipart/form-data; boundary={boundary}"})


def policy(conditions, secs=600):
    until = datetime.datetime.now(datetime.UTC) + datetime.timedelta(seconds=secs)
    document = {"expiration": f"{until:%Y-%m-%dT%H:%M:%SZ}", "conditions": conditions}
    return base64.b64encode(json.dumps(document).encode()).decode()


def signed(fields, text, secret=secret):
    """With a policy and its signature of version 2, as older pages have it."""
    mac = base64.b64encode(hmac.new(secret.encode(), text.encode(), hashlib.sha1).digest()).decode()
    return [*fields, ("AWSAccessKeyId", key_id), ("policy", text), ("signature", mac)]


bucket = "wire-" + os.urandom(4).hex()
s3.create_bucket(Bucket=bucket)

# Two that send the head of a body and then nothing; looked at again in the end.
signer = SigV4Auth(Credentials(key_id, secret), "s3", "us-east-1")


def headers_of(method, path, headers):
    request = AWSRequest(method, endpoint + path, headers={"x-amz-content-sha256": "UNSIGNED-PAYLOAD", **headers})
    signer.add_auth(request)
    return dict(request.headers)


def silent(method, path, headers, head):
    connection = socket.create_connection((place.hostname, place.port))
    lines = [f"{method} {path} HTTP/1.1", f"host: {place.netloc}", "content-length: 1000000"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    connection.sendall(("\r\n".join(lines) + "\r\n\r\n").encode() + head)
    return connection, time.monotonic()


waiting = [silent("PUT", f"/{bucket}/silent", headers_of("PUT", f"/{bucket}/silent", {}), b"x" * 1000),
           silent("POST", f"/{bucket}", {"content-type": "multipart/form-data; boundary=b"}, b"--b\r\nContent-Dis")]

# Forms.
post = s3.generate_presigned_post(bucket, "in/${filename}", Fields={"x-amz-meta-a": "b"}, Conditions=[{"x-amz-meta-a": "b"}])
status, headers, _ = form(post["fields"].items())
got = s3.get_object(Bucket=bucket, Key="in/a.txt")
check("a form of version 4", status == 204 and got["Body"].read() == b"bar" and got["Metadata"] == {"a": "b"})
check("and its answer", headers["location"].endswith("/in/a.txt") and headers["etag"] == got["ETag"])
check("a form that was changed", form({**post["fields"], "x-amz-meta-a": "c"}.items())[0] == 403)
check("a field nobody signed", form([*post["fields"].items(), ("acl", "public-read")])[0] == 403)

own = [{"bucket": bucket}, ["starts-with", "$key", "in/"], {"acl": "private"}, ["content-length-range", 2, 4]]
fields = [("key", "in/two"), ("acl", "private")]
check("a form of version 2", form(signed(fields, policy(own)))[0] == 204)
check("of another's secret", form(signed(fields, policy(own), "no" + secret))[0] == 403)
check("that has expired", form(signed(fields, policy(own, -1)))[0] == 403)
check("another key than it was signed for", form(signed([("key", "out/two"), ("acl", "private")], policy(own)))[0] == 403)
check("for any bucket", form(signed(fields, policy(own[1:])))[0] == 403)
check("too large", (lambda answer: answer[0] == 400 and "EntityTooLarge" in answer[2])(form(signed(fields, policy(own)), b"12345")))
check("too small", (lambda answer: answer[0] == 400 and "EntityTooSmall" in answer[2])(form(signed(fields, policy(own)), b"1")))
check("unsigned where nobody may", form(fields)[0] == 403)
right = base64.b64encode(hashlib.sha256(b"bar").digest()).decode()
rule = {"Effect": "Allow", "Principal": "*", "Action": "s3:PutObject", "Resource": f"arn:aws:s3:::{bucket}/*"}
s3.put_bucket_policy(Bucket=bucket, Policy=json.dumps({"Statement": [rule]}))
check("unsigned where everybody may", form(fields[:1])[0] == 204)
tagging = "<Tagging><TagSet><Tag><Key>a</Key><Value>b</Value></Tag></TagSet></Tagging>"
for field, value in (("acl", "public-read"), ("x-amz-grant-read", 'uri="http://acs.amazonaws.com/groups/global/AllUsers"'),
                     ("tagging", tagging), ("x-amz-object-lock-legal-hold", "ON")):
    check(f"but without {field}", form([*fields[:1], (field, value)])[0] == 403)
s3.put_bucket_policy(Bucket=bucket, Policy=json.dumps({"Statement": [rule | {"Effect": "Deny", "Action": "s3:PutObjectAcl"}]}))
check("signed with a list where that is denied", form(signed(fields, policy(own)))[0] == 403)
s3.delete_bucket_policy(Bucket=bucket)
check("with a checksum", form([("x-amz-checksum-sha256", right), *signed(fields, policy(own))])[0] == 204)
check("with a wrong one", form([("x-amz-checksum-sha256", right), *signed(fields, policy(own))], b"baz")[0] == 400)
tags = "<Tagging><TagSet><Tag><Key>a</Key><Value>1 &amp; 2</Value></Tag></TagSet></Tagging>"
there = [("tagging", tags), ("success_action_redirect", "http://localhost/done?x=1")]
asked = [["starts-with", "$tagging", ""], ["starts-with", "$success_action_redirect", "http://localhost/"]]
status, headers, _ = form(signed([*fields, *there], policy(own + asked)))
etag = urllib.parse.quote('"%s"' % hashlib.md5(b"bar").hexdigest())
check("sent on to a page", (status, headers["location"]) ==
      (303, f"http://localhost/done?x=1&bucket={bucket}&key=in%2Ftwo&etag={etag}"))
check("with tags", s3.get_object_tagging(Bucket=bucket, Key="in/two")["TagSet"] == [{"Key": "a", "Value": "1 & 2"}])
status, _, text = form(signed([*fields, ("success_action_status", "201")], policy([*own, {"success_action_status": "201"}])))
check("with a status", status == 201 and "<Key>in/two</Key>" in text)

# Bodies and headers.
path = f"/{bucket}/chunked"
status, _, _ = send("PUT", path, iter([b"in ", b"chunks"]), headers_of("PUT", path, {}))
check("a body that does not say its length", status == 200 and s3.get_object(Bucket=bucket, Key="chunked")["Body"].read() == b"in chunks")
status, _, _ = send("PUT", path, iter([b"x" * (1 << 20)] * 8 + [b"x"]), headers_of("PUT", path, {}))
check("but only so much", status == 411)
headers = headers_of("GET", path, {"Date": f"{datetime.datetime.now(datetime.UTC):%a, %d %b %Y %H:%M:%S GMT}"})
check("a date in the header of HTTP", "X-Amz-Date" not in headers and send("GET", path, None, headers)[0] == 200)
check("a name no host can have", code(s3.create_bucket, Bucket="a.-" + os.urandom(4).hex()) == "InvalidBucketName")

# Checksums of parts, and attributes.
upload = s3.create_multipart_upload(Bucket=bucket, Key="multi", ChecksumAlgorithm="SHA256", ChecksumType="COMPOSITE")["UploadId"]
parts = [b"a" * (5 << 20), b"tail"]
sums = [base64.b64encode(hashlib.sha256(part).digest()).decode() for part in parts]
told = [s3.upload_part(Bucket=bucket, Key="multi", UploadId=upload, PartNumber=at + 1, Body=part, ChecksumSHA256=sums[at])
        for at, part in enumerate(parts)]
done = s3.complete_multipart_upload(Bucket=bucket, Key="multi", UploadId=upload, MultipartUpload={"Parts": [
    {"PartNumber": at + 1, "ETag": one["ETag"], "ChecksumSHA256": sums[at]} for at, one in enumerate(told)]})
whole = base64.b64encode(hashlib.sha256(b"".join(map(base64.b64decode, sums))).digest()).decode() + "-2"
check("a composite checksum", done["ChecksumSHA256"] == whole)
got = s3.get_object(Bucket=bucket, Key="multi", PartNumber=2, ChecksumMode="ENABLED")
check("a part tells its own", (got["ChecksumSHA256"], got["ChecksumType"]) == (sums[1], "COMPOSITE") and got["Body"].read() == b"tail")
asked = s3.get_object_attributes(Bucket=bucket, Key="multi", ObjectAttributes=["ETag", "Checksum", "ObjectParts", "ObjectSize"])
check("attributes", asked["ETag"] == done["ETag"].strip('"') and asked["Checksum"]["ChecksumSHA256"] == whole
      and [one["Size"] for one in asked["ObjectParts"]["Parts"]] == [5 << 20, 4])

# What was not signed, and what is not known, is not done.
def refused(name, answer, status, code):
    check(name, answer[0] == status and (code in answer[2] or answer[0] == status and not answer[2]))


# Asked for nothing else this client signs links with version 2.
links = boto3.client("s3", endpoint_url=endpoint, aws_access_key_id=key_id, aws_secret_access_key=secret,
                     region_name="us-east-1", config=Config(s3={"addressing_style": "path"}, signature_version="s3v4"))


def link(operation, key, **arguments):
    url = links.generate_presigned_url(operation, Params={"Bucket": bucket, "Key": key, **arguments})
    return url[len(endpoint):]


s3.put_object(Bucket=bucket, Key="secret", Body=b"secret")
s3.put_object(Bucket=bucket, Key="kept", Body=b"kept")
for name, value in (("x-amz-copy-source", f"/{bucket}/secret"), ("x-amz-acl", "public-read"), ("x-amz-tagging", "a=b"),
                    ("x-amz-bypass-governance-retention", "true"), ("x-amz-website-redirect-location", "/x")):
    refused(f"a link whose bearer adds {name}", send("PUT", link("put_object", "linked"), b"", {name: value}),
            403, "not signed")
check("makes nothing", code(s3.head_object, Bucket=bucket, Key="linked") == "404")
check("a link alone", send("PUT", link("put_object", "linked"), b"x", {})[0] == 200)
headers = headers_of("PUT", f"/{bucket}/linked", {})
refused("a header added to a signed request", send("PUT", f"/{bucket}/linked", b"", {**headers, "x-amz-acl": "public-read"}),
        403, "not signed")


def signed_send(method, path, body=None, headers={}):
    return send(method, path, body, headers_of(method, path, headers))


for method, target in (("PUT", "kept?renameObject"), ("PUT", "kept?annotation&annotationName=a"), ("PUT", "kept?encryption"),
                       ("DELETE", "kept?annotation&annotationName=a"), ("GET", "kept?annotation&annotationName=a"),
                       ("DELETE", "?metadataConfiguration"), ("PUT", "?abac"), ("GET", "?abac"), ("PUT", "kept?nobody=knows")):
    path = f"/{bucket}/{target}" if not target.startswith("?") else f"/{bucket}{target}"
    refused(f"{method} {target}", signed_send(method, path, b"" if method == "PUT" else None), 501, "NotImplemented")
refused("a rename's header alone", signed_send("PUT", f"/{bucket}/kept", b"", {"x-amz-rename-source": "secret"}), 501, "NotImplemented")
check("leave what is there", s3.get_object(Bucket=bucket, Key="kept")["Body"].read() == b"kept")

# Conditions on the destination of a copy.
source = {"Bucket": bucket, "Key": "secret"}
path, from_secret = f"/{bucket}/kept", {"x-amz-copy-source": f"/{bucket}/secret"}
refused("a copy over what must not be there", signed_send("PUT", path, b"", {**from_secret, "If-None-Match": "*"}), 412, "PreconditionFailed")
refused("a copy over what must be another", signed_send("PUT", path, b"", {**from_secret, "If-Match": '"0"'}), 412, "PreconditionFailed")
check("change nothing", s3.get_object(Bucket=bucket, Key="kept")["Body"].read() == b"kept")
etag = s3.head_object(Bucket=bucket, Key="kept")["ETag"]
check("a copy over what is as said", signed_send("PUT", path, b"", {**from_secret, "If-Match": etag})[0] == 200)
check("a copy to where nothing is", signed_send("PUT", f"/{bucket}/copied", b"", {**from_secret, "If-None-Match": "*"})[0] == 200)

# Bodies that are not what was said of them.
path = f"/{bucket}/damaged"
other = hashlib.sha256(b"other").hexdigest()
refused("a body of another hash", signed_send("PUT", path, b"body", {"x-amz-content-sha256": other}), 400, "XAmzContentSHA256Mismatch")
refused("a checksum too short", signed_send("PUT", path, b"body", {"x-amz-checksum-crc32": "AAAA"}), 400, "InvalidRequest")
for name in ("sha512", "md5", "xxhash3", "xxhash64", "xxhash128", "bogus"):
    refused(f"a {name} that nobody verifies", signed_send("PUT", path, b"body", {f"x-amz-checksum-{name}": "AAAA"}), 400, "InvalidRequest")
refused("an algorithm that nobody verifies", signed_send("PUT", path, b"body", {"x-amz-sdk-checksum-algorithm": "SHA512"}), 400, "InvalidRequest")
refused("an upload's", signed_send("POST", f"{path}?uploads=", b"", {"x-amz-checksum-algorithm": "SHA512"}), 400, "InvalidRequest")
refused("a form's", form([("x-amz-checksum-sha512", "AAAA"), *signed(fields, policy(own))]), 400, "InvalidRequest")
right = base64.b64encode(zlib.crc32(b"body").to_bytes(4, "big")).decode()


def trailing(named, *sent):
    """A put whose checksums come after the body."""
    end = "".join(f"{name}:{value}\r\n" for name, value in sent).encode()
    return signed_send("PUT", path, b"4\r\nbody\r\n0\r\n" + end + b"\r\n", {
        "x-amz-content-sha256": "STREAMING-UNSIGNED-PAYLOAD-TRAILER", "x-amz-decoded-content-length": "4", "x-amz-trailer": named})


check("a trailer that is right", trailing("x-amz-checksum-crc32", ("x-amz-checksum-crc32", right))[0] == 200)
s3.delete_object(Bucket=bucket, Key="damaged")
refused("one that is not", trailing("x-amz-checksum-crc32", ("x-amz-checksum-crc32", "AAAAAA==")), 400, "BadDigest")
refused("one that nobody verifies", trailing("x-amz-checksum-sha512", ("x-amz-checksum-sha512", "AAAA")), 400, "InvalidRequest")
refused("one that was not named", trailing("x-amz-checksum-crc32", ("x-amz-checksum-crc32", right), ("x-amz-checksum-sha1", "AAAA")), 400, "InvalidRequest")
chunk = b"4;chunk-signature=" + b"0" * 64 + b"\r\nbody\r\n0;chunk-signature=" + b"0" * 64 + b"\r\n\r\n"
streaming = {"x-amz-content-sha256": "STREAMING-AWS4-HMAC-SHA256-PAYLOAD", "x-amz-decoded-content-length": "4"}
refused("a chunk of another's signature", signed_send("PUT", path, chunk, streaming), 403, "SignatureDoesNotMatch")
check("are not kept", code(s3.head_object, Bucket=bucket, Key="damaged") == "404")

# What is told of a mistake.
refused("a wrong secret", send("GET", link("get_object", "secret")[:-4] + "0000", None, {}), 403, "<Message>The request signature we calculated")
refused("a bucket's name that cannot be", signed_send("GET", "/B_d"), 400, "<Message>The specified bucket is not valid")
check("a tag of the service's", code(s3.put_object_tagging, Bucket=bucket, Key="kept", Tagging={"TagSet": [{"Key": "aws:a", "Value": "b"}]}) == "InvalidTag")
for method in ("GET", "HEAD"):
    check(f"a header that cannot be, {method}", signed_send(method, f"/{bucket}/kept?response-content-type=%00")[0] == 400)
refused("a signature of version 2", send("GET", f"/{bucket}/kept?AWSAccessKeyId=a&Signature=b&Expires=9", None, {}), 400, "s3v4")
check("an encoding there is not", signed_send("GET", f"/{bucket}?encoding-type=foo")[0] == 400)
check("a storage class there is not", code(s3.put_object, Bucket=bucket, Key="cold", Body=b"", StorageClass="GLACIER") == "InvalidStorageClass")
whole = b"secret"
for name in ("bytes=9-2", "bytes=a-b", "bytes=0-1,3-4"):
    status, _, text = send("GET", link("get_object", "secret"), None, {"Range": name})
    check(f"a range that is ignored: {name}", (status, text) == (200, "secret"))


def policy_of(effect="Deny", action="s3:PutObject", principal="*", condition={}):
    statement = {"Effect": effect, "Principal": principal, "Action": action, "Resource": f"arn:aws:s3:::{bucket}/*"}
    return json.dumps({"Version": "2012-10-17", "Statement": [{**statement, "Condition": condition}]})


for name, text in (("action", policy_of(action="s3:DeletObject")), ("principal", policy_of(principal={"AWS": "nobody-of-this-name"})),
                   ("key", policy_of(condition={"StringEquals": {"aws:SourceIpp": "x"}}))):
    check(f"a policy with an unknown {name}", code(s3.put_bucket_policy, Bucket=bucket, Policy=text) == "MalformedPolicy")

# What a policy lets anybody put, it lets nobody lock, open or hold.
s3.put_bucket_policy(Bucket=bucket, Policy=policy_of("Allow"))
path = f"/{bucket}/anybodys"
check("anybody puts where a policy says so", send("PUT", path, b"x", {})[0] == 200)
until = f"{datetime.datetime.now(datetime.UTC) + datetime.timedelta(days=3650):%Y-%m-%dT%H:%M:%SZ}"
for name, extra in (("locks", {"x-amz-object-lock-mode": "COMPLIANCE", "x-amz-object-lock-retain-until-date": until}),
                    ("holds", {"x-amz-object-lock-legal-hold": "ON"}), ("opens", {"x-amz-acl": "public-read"})):
    refused(f"but {name} nothing", send("PUT", path, b"x", extra), 403, "AccessDenied")
s3.delete_bucket_policy(Bucket=bucket)

# Who waits to be asked for a body, and is refused instead, sends another request at once or nothing: what follows on the
# connection is never taken for the body.
def waiting_put(headers):
    """Sends the head of a put of one byte and gives the connection with the head of what is answered."""
    connection = socket.create_connection((place.hostname, place.port), timeout=60)
    lines = [f"PUT /{bucket}/waits HTTP/1.1", f"host: {place.netloc}", "content-length: 1", "expect: 100-continue"]
    connection.sendall(("\r\n".join(lines + [f"{name}: {value}" for name, value in headers.items()]) + "\r\n\r\n").encode())
    return connection, head_of(connection)


def head_of(connection):
    answer = b""
    while b"\r\n\r\n" not in answer:
        piece = connection.recv(1)
        if not piece:
            break
        answer += piece
    return answer.decode().lower()


connection, head = waiting_put({})
check("a put that waits and is refused ends its connection", head.startswith("http/1.1 403") and "\r\nconnection: close" in head)
while connection.recv(65536):
    pass
connection, head = waiting_put(headers_of("PUT", f"/{bucket}/waits", {}))
check("one that is let in is asked for its body", head.startswith("http/1.1 100"))
connection.sendall(b"x")
head = head_of(connection)
connection.sendall(f"GET /-/health HTTP/1.1\r\nhost: {place.netloc}\r\n\r\n".encode())
check("and keeps its connection", head.startswith("http/1.1 200") and "connection: close" not in head
      and head_of(connection).startswith("http/1.1 200"))
connection.close()

# Keys XML has no place for.
odd = "odd\x01"
s3.put_object(Bucket=bucket, Key=odd, Body=b"x")
refused("a listing that cannot name a key", signed_send("GET", f"/{bucket}?prefix=odd"), 400, "encoding-type=url")
check("names it encoded", [one["Key"] for one in s3.list_objects_v2(Bucket=bucket, Prefix="odd")["Contents"]] == [odd])
xml = b"<Delete><Object><Key>odd&#1;</Key></Object></Delete>"
md5 = base64.b64encode(hashlib.md5(xml).digest()).decode()
refused("a deletion that cannot name a key", signed_send("POST", f"/{bucket}?delete", xml, {"Content-MD5": md5}), 400, "MalformedXML")
s3.delete_object(Bucket=bucket, Key=odd)

# A date nobody can bind anything for.
locked = "locked-" + os.urandom(4).hex()
s3.create_bucket(Bucket=locked, ObjectLockEnabledForBucket=True)
far = datetime.datetime(2200, 1, 1, tzinfo=datetime.UTC)
try:
    s3.put_object(Bucket=locked, Key="k", Body=b"x", ObjectLockMode="COMPLIANCE", ObjectLockRetainUntilDate=far)
    told = {}
except ClientError as error:
    told = error.response["Error"]
check("a retention of more than 101 years", told.get("Code") == "InvalidArgument" and "101 years" in told["Message"])
rule = {"ObjectLockEnabled": "Enabled", "Rule": {"DefaultRetention": {"Mode": "COMPLIANCE", "Years": 200}}}
check("also of a bucket", code(s3.put_object_lock_configuration, Bucket=locked, ObjectLockConfiguration=rule) == "InvalidArgument")
# A bucket goes with its last lock.
until = datetime.datetime.now(datetime.UTC) + datetime.timedelta(seconds=4)
version = s3.put_object(Bucket=locked, Key="k", Body=b"x", ObjectLockMode="COMPLIANCE", ObjectLockRetainUntilDate=until)["VersionId"]
until = s3.get_object_retention(Bucket=locked, Key="k", VersionId=version)["Retention"]["RetainUntilDate"].timestamp()
refused_code = code(s3.delete_object, Bucket=locked, Key="k", VersionId=version)
while time.time() < until:
    time.sleep(until - time.time())
check("a version is locked until its date", refused_code == "AccessDenied"
      and code(s3.delete_object, Bucket=locked, Key="k", VersionId=version) is None)
check("and its bucket no longer", code(s3.delete_bucket, Bucket=locked) is None)

for name, (connection, begun) in zip(("a put", "a form"), waiting):
    connection.settimeout(90)
    answer = b""
    while piece := connection.recv(65536):
        answer += piece
    check(f"{name} whose sender falls silent", answer.startswith(b"HTTP/1.1 400") and b"RequestTimeout" in answer
          and time.monotonic() - begun >= 55)
check("leaves nothing", code(s3.head_object, Bucket=bucket, Key="silent") == "404")

s3.delete_objects(Bucket=bucket, Delete={"Objects": [
    {"Key": one["Key"]} for one in s3.list_objects_v2(Bucket=bucket)["Contents"]]})
s3.delete_bucket(Bucket=bucket)
sys.exit(failed > 0)
