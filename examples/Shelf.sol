// SPDX-License-Identifier: Apache-2.0 OR MIT
pragma solidity ^0.8.24;

/// A contract that lives beside the ledger's modules and calls one.
///
/// It keeps a number, logs each change, and makes buckets of its own through the module `buckets`. A revert
/// around that call undoes what the module wrote, as for any contract.
interface IBuckets {
    struct Shape {
        uint8 k;
        uint8 n;
        uint8 t;
        uint8 operators;
        uint8 networks;
        uint8 zones;
        uint32 shardBytes;
        uint16 codeId;
    }

    function create(bytes32 salt, Shape calldata shape, uint64 blocks) external returns (bytes32 id);
    function count(address owner) external view returns (uint64);
}

contract Shelf {
    IBuckets constant BUCKETS = IBuckets(0x0000000000000000000000000000000000000de3);
    uint256 constant MOST = 1000;

    uint256 public value;

    event Changed(address indexed who, uint256 value);

    error TooLarge(uint256 value, uint256 most);

    constructor(uint256 first) {
        value = first;
    }

    function set(uint256 next) external {
        if (next > MOST) revert TooLarge(next, MOST);
        value = next;
        emit Changed(msg.sender, next);
    }

    /// Makes a bucket that this contract owns.
    function make(bytes32 salt) public returns (bytes32) {
        return BUCKETS.create(salt, IBuckets.Shape(3, 6, 1, 0, 0, 0, 262144, 1), 100);
    }

    /// Makes a bucket and then fails.
    function makeAndFail(bytes32 salt) external {
        make(salt);
        revert TooLarge(MOST + 1, MOST);
    }

    /// Survives a failure inside: the number changes, the bucket is never made.
    function makeAndRecover(bytes32 salt, uint256 next) external {
        try this.makeAndFail(salt) {
            revert("did not fail");
        } catch {
            value = next;
        }
        emit Changed(msg.sender, next);
    }

    function owned() external view returns (uint64) {
        return BUCKETS.count(address(this));
    }
}
