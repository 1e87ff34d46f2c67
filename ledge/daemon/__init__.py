"""ledged, the node daemon: the one part of condor-ledge with root's rights.

main.py       the way in: launcher, policy and socket are made, then rights are given up
server.py     connections: framing, bounds, deadlines
peer.py       who is at the other end, by what the kernel says
requests.py   what is done on reserve, launch, settle and status
"""
