// A day with Amazon's JavaScript client.
import assert from 'node:assert/strict'
import { createReadStream, readFileSync, readdirSync, statSync } from 'node:fs'
import {
  CopyObjectCommand, CreateBucketCommand, DeleteBucketCommand, DeleteObjectCommand, DeleteObjectsCommand, GetObjectCommand,
  HeadObjectCommand, ListBucketsCommand, ListObjectVersionsCommand, ListObjectsV2Command, PutBucketVersioningCommand,
  PutObjectCommand, S3Client, paginateListObjectsV2,
} from '@aws-sdk/client-s3'
import { Upload } from '@aws-sdk/lib-storage'
import { getSignedUrl } from '@aws-sdk/s3-request-presigner'

const { ENDPOINT: endpoint, BUCKET: Bucket, TRANSPORT: transport } = process.env
const s3 = new S3Client({ endpoint, forcePathStyle: true, region: 'us-east-1' })
const big = readFileSync('big')
const one = readFileSync('folder/file-1')
let bad = 0
async function step(name, work) {
  try {
    await work()
    console.log(`ok s3 sdkjs over ${transport}: ${name}`)
  } catch (error) {
    console.log(`not ok s3 sdkjs over ${transport}: ${name}\n    ${error.name}: ${String(error.message).split('\n')[0]}`)
    bad = 1
  }
}
const get = async (Key, more = {}) => Buffer.from(await (await s3.send(new GetObjectCommand({ Bucket, Key, ...more }))).Body.transformToByteArray())
const same = (a, b) => assert.ok(Buffer.compare(a, b) === 0, `${a.length} bytes found, which are not the ${b.length} expected`)
const keys = async (Prefix) => {
  const found = []
  for await (const page of paginateListObjectsV2({ client: s3, pageSize: 2 }, { Bucket, Prefix })) found.push(...(page.Contents ?? []).map((one) => one.Key))
  return found
}

await step('make a bucket', async () => {
  await s3.send(new CreateBucketCommand({ Bucket }))
  assert.ok((await s3.send(new ListBucketsCommand({}))).Buckets.some((bucket) => bucket.Name === Bucket))
})
await step('put and get', async () => {
  await s3.send(new PutObjectCommand({ Bucket, Key: 'dir/one', Body: one }))
  same(await get('dir/one'), one)
})
await step('put a stream and get it in parts', async () => {
  const upload = new Upload({ client: s3, params: { Bucket, Key: 'big', Body: createReadStream('big') }, partSize: 5 << 20, queueSize: 3 })
  assert.match((await upload.done()).ETag, /-3"$/)
  same(await get('big'), big)
})
await step('list', async () => {
  assert.deepEqual(await keys(), ['big', 'dir/one'])
  const page = await s3.send(new ListObjectsV2Command({ Bucket, Delimiter: '/' }))
  assert.deepEqual(page.CommonPrefixes.map((one) => one.Prefix), ['dir/'])
})
await step('a range', async () => same(await get('big', { Range: 'bytes=5000000-6999999' }), big.subarray(5000000, 7000000)))
await step('copy', async () => {
  await s3.send(new CopyObjectCommand({ Bucket, Key: 'copy/two', CopySource: `${Bucket}/dir/one` }))
  same(await get('copy/two'), one)
})
await step('a presigned link', async () => {
  const link = await getSignedUrl(s3, new GetObjectCommand({ Bucket, Key: 'dir/one' }), { expiresIn: 60 })
  same(Buffer.from(await (await fetch(link)).arrayBuffer()), one)
  const up = await getSignedUrl(s3, new PutObjectCommand({ Bucket, Key: 'signed' }), { expiresIn: 60 })
  assert.equal((await fetch(up, { method: 'PUT', body: one })).status, 200)
  same(await get('signed'), one)
})
await step('a folder up and down', async () => {
  const files = readdirSync('folder', { recursive: true }).filter((name) => statSync(`folder/${name}`).isFile()).sort()
  await Promise.all(files.map((name) => s3.send(new PutObjectCommand({ Bucket, Key: `sync/${name}`, Body: readFileSync(`folder/${name}`) }))))
  assert.deepEqual(await keys('sync/'), files.map((name) => `sync/${name}`))
  for (const name of files) same(await get(`sync/${name}`), readFileSync(`folder/${name}`))
})
await step('metadata', async () => {
  await s3.send(new PutObjectCommand({ Bucket, Key: 'meta', Body: one, ContentType: 'text/x-day', Metadata: { colour: 'green' } }))
  const head = await s3.send(new HeadObjectCommand({ Bucket, Key: 'meta' }))
  assert.deepEqual([head.ContentType, head.Metadata], ['text/x-day', { colour: 'green' }])
})
await step('versions', async () => {
  await s3.send(new PutBucketVersioningCommand({ Bucket, VersioningConfiguration: { Status: 'Enabled' } }))
  await s3.send(new PutObjectCommand({ Bucket, Key: 'v', Body: 'old' }))
  await s3.send(new PutObjectCommand({ Bucket, Key: 'v', Body: 'new' }))
  await s3.send(new DeleteObjectCommand({ Bucket, Key: 'v' }))
  const { Versions, DeleteMarkers } = await s3.send(new ListObjectVersionsCommand({ Bucket, Prefix: 'v' }))
  assert.deepEqual([Versions.length, DeleteMarkers.length], [2, 1])
  same(await get('v', { VersionId: Versions[1].VersionId }), Buffer.from('old'))
})
await step('delete everything', async () => {
  const listed = await s3.send(new ListObjectVersionsCommand({ Bucket }))
  const Objects = [...(listed.Versions ?? []), ...(listed.DeleteMarkers ?? [])].map(({ Key, VersionId }) => ({ Key, VersionId }))
  const { Errors } = await s3.send(new DeleteObjectsCommand({ Bucket, Delete: { Objects } }))
  assert.deepEqual(Errors ?? [], [])
  await s3.send(new DeleteBucketCommand({ Bucket }))
})
process.exit(bad)
