"""A network of a job's own (network: private), made by a process of root's beside ledged.

A network namespace with a pair of veth devices: eth0 in the job's namespace, ledgeN on the node,
routed, without a bridge, so that jobs never meet below IP. What may pass is said by one table of
nftables, whose rules know the devices by their names: nothing is added for a job but the ports that
it has open. The devices are the register: the number in a device's name gives the address, and its
alias says for which wrapper it is there and which ports are open. Who starts anew reads all from
them, and a device vanishes with its job's namespace whether anybody looks or not.

    addresses.py   the range of addresses and ports, and who has which
    ruleset.py     what ip(8) and nft(8) are told
    programs.py    running them
    networks.py    making a job's network and taking it down
    server.py      the process: orders from ledged, the ends of wrappers, changes of the rules
    orders.py      the messages between it and ledged
    readiness.py   what the node lacks, and the remedy
    resolver.py    name servers that can be reached from within
"""
