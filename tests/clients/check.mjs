// Say what was checked, and fail naming it.
import assert from 'node:assert/strict'

export async function check(client, name, work) {
  try {
    await work()
    console.log(`ok   ${client}: ${name}`)
  } catch (error) {
    console.log(`FAIL ${client}: ${name}: ${error.shortMessage ?? error.message}`)
    throw error
  }
}

export async function rpc(url, method, params = []) {
  const response = await fetch(url, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({ jsonrpc: '2.0', id: 1, method, params }),
  })
  return response.json()
}

export function within(ms, promise, what) {
  let timer
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error(`no ${what} within ${ms} ms`)), ms)
  })
  return Promise.race([promise, late]).finally(() => clearTimeout(timer))
}

export { assert }
