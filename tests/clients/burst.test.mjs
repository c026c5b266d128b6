// Burst: another cloud holds capacity on this one, lends it, and gives it back, by ordinary calls (docs/burst.md).
// Usage: node burst.test.mjs RPC_URL PRIVATE_KEY
import {
  createPublicClient, createWalletClient, defineChain, http, parseAbi, parseEventLogs, zeroHash,
} from 'viem'
import { privateKeyToAccount } from 'viem/accounts'
import { assert, check, rpc } from './check.mjs'

const MARKET = '0x0000000000000000000000000000000000000de8'
const LEASES = '0x0000000000000000000000000000000000000de9'
const abi = parseAbi([
  'struct Capacity { uint64 cpuMilli; uint64 memoryBytes; uint64 diskBytes; uint64 bandwidthBits; uint64 transferBytes; }',
  'struct Prices { uint64 cpuMilli; uint64 memoryMib; uint64 diskMib; uint64 bandwidthKbit; uint64 transferMib; }',
  'struct Order { Capacity each; uint8 replicas; uint64 regions; bytes2 country; uint8 runtime; uint8 tierMin; uint8 attestationMin; uint8 renewableMin; uint128 priceMax; uint8 perHost; uint8 perOperator; uint8 perNetwork; uint8 class; uint64 secs; uint64 patienceMs; bytes32 workload; uint128 collateralMin; uint16 availabilityMinBp; uint64 within; bytes32[] exclude; }',
  'struct Placement { bytes32 node; uint128 rate; uint64 via; }',
  'struct Step { uint128 priceFrom; uint64 offers; Capacity free; }',
  'struct Held { uint64 lease; uint64 order; address holder; bytes32 node; Capacity capacity; Capacity free; uint64 leases; uint64 untilMs; bool lent; Prices prices; uint16 preemptibleBp; }',
  'struct Lease { uint64 id; uint64 order; address owner; bytes32 node; uint8 state; bool preemptible; Capacity capacity; uint128 rate; uint128 left; uint128 owed; uint64 paidSecs; uint64 begunMs; uint64 untilMs; bytes32 workload; uint8 replica; uint64 generation; uint64 lostMs; uint128 callRate; uint128 claimed; uint64 via; uint64 deputyOf; }',
  'function depth(uint8 region, uint8 runtime) view returns (Step[])',
  'function quote(Order terms) view returns (Placement[])',
  'function order(Order terms) payable returns (uint64 id)',
  'function reserved(uint64 order) view returns (Held[] held, uint256 earned)',
  'function lent(uint64 first, uint64 most) view returns (Held[])',
  'function lend(uint64 lease, Prices prices, uint16 preemptibleBp)',
  'function recall(uint64 lease)',
  'function get(uint64 lease) view returns (Lease)',
  'function end(uint64[] leases)',
  'event Filled(uint64 indexed order, address indexed owner, uint64 firstLease, uint256 escrow, uint256 change)',
  'event Ended(uint64 indexed lease, bytes32 indexed node, address indexed owner, uint8 by, uint256 refund, uint256 penalty)',
])

const [url, key] = process.argv.slice(2)
const id = Number((await rpc(url, 'eth_chainId')).result)
const chain = defineChain({
  id, name: 'hodei', nativeCurrency: { name: 'hod', symbol: 'hod', decimals: 18 }, rpcUrls: { default: { http: [url] } },
})
const account = privateKeyToAccount(key)
const reader = createPublicClient({ chain, transport: http(url), pollingInterval: 50 })
const wallet = createWalletClient({ chain, account, transport: http(url) })
const read = (address, functionName, args) => reader.readContract({ address, abi, functionName, args })
const send = async (address, functionName, args, value = 0n) => {
  const hash = await wallet.writeContract({ address, abi, functionName, args, value, gas: 4_000_000n })
  const receipt = await reader.waitForTransactionReceipt({ hash, timeout: 20_000 })
  assert.equal(receipt.status, 'success', functionName)
  return receipt
}
const on = (name, work) => check('burst', name, work)
const none = { cpuMilli: 0n, memoryBytes: 0n, diskBytes: 0n, bandwidthBits: 0n, transferBytes: 0n }
const each = { ...none, cpuMilli: 100n, memoryBytes: 64n << 20n }
const SECS = 600n

// Where something is on offer: a place in the ledger's list of 25 regions.
let region = -1
for (let place = 0; place < 25 && region < 0; place += 1) {
  const steps = await read(MARKET, 'depth', [place, 0])
  if (steps.some(({ free }) => free.cpuMilli >= each.cpuMilli && free.memoryBytes >= each.memoryBytes)) region = place
}
if (region < 0) {
  console.log('skip burst: nobody offers compute here')
  process.exit(0)
}
const terms = {
  each, replicas: 1, regions: 1n << BigInt(region), country: '0x0000', runtime: 0, tierMin: 0, attestationMin: 0,
  renewableMin: 0, priceMax: (1n << 128n) - 1n, perHost: 1, perOperator: 0, perNetwork: 0, class: 0, secs: SECS,
  patienceMs: 0n, workload: zeroHash, collateralMin: 0n, availabilityMinBp: 0, within: 0n, exclude: [],
}

let reservation, lease
await on('a quote is what an order then pays', async () => {
  const [place] = await read(MARKET, 'quote', [terms])
  assert.equal(place.via, 0n, 'nothing is held within what is held')
  const priceMax = place.rate * 3600n
  // Half as much again: it is held for longer, and what is not used comes back.
  const receipt = await send(MARKET, 'order', [{ ...terms, priceMax }], (place.rate * SECS * 3n) / 2n)
  const [filled] = parseEventLogs({ abi, logs: receipt.logs, eventName: 'Filled' })
  assert.equal(filled.args.owner.toLowerCase(), account.address.toLowerCase())
  assert.ok(filled.args.escrow >= place.rate * SECS)
  reservation = filled.args.order
  lease = filled.args.firstLease
})

await on('what is held is read by its order and by its lease', async () => {
  const [held, earned] = await read(MARKET, 'reserved', [reservation])
  assert.equal(earned, 0n)
  assert.equal(held.length, 1)
  assert.equal(held[0].lease, lease)
  assert.deepEqual(held[0].free, each)
  assert.equal(held[0].lent, false)
  const shown = await read(LEASES, 'get', [lease])
  assert.equal(shown.state, 1)
  assert.equal(shown.workload, zeroHash)
  assert.equal(shown.order, reservation)
  assert.ok(shown.untilMs > BigInt(Date.now()))
})

await on('what is free of it is lent in the book, and recalled', async () => {
  const prices = { cpuMilli: 1_000_000_000_000n, memoryMib: 0n, diskMib: 0n, bandwidthKbit: 0n, transferMib: 0n }
  await send(MARKET, 'lend', [lease, prices, 5000])
  const lent = await read(MARKET, 'lent', [0n, 64n])
  assert.equal(lent.find((one) => one.lease === lease)?.prices.cpuMilli, prices.cpuMilli)
  await send(MARKET, 'recall', [lease])
  assert.equal((await read(MARKET, 'lent', [0n, 64n])).some((one) => one.lease === lease), false)
})

await on('what would be refused is asked first, and costs nothing', async () => {
  // It is lent no more: the same call again would be refused.
  await assert.rejects(
    reader.simulateContract({ account, address: MARKET, abi, functionName: 'recall', args: [lease] }),
    /revert/i,
  )
})

await on('it ends, and what is not owed comes back', async () => {
  const receipt = await send(LEASES, 'end', [[lease]])
  const [ended] = parseEventLogs({ abi, logs: receipt.logs, eventName: 'Ended' })
  assert.equal(ended.args.by, 1)
  assert.ok(ended.args.refund > 0n)
  assert.equal((await read(LEASES, 'get', [lease])).state, 2)
  const [held] = await read(MARKET, 'reserved', [reservation])
  assert.equal(held.length, 0)
})
