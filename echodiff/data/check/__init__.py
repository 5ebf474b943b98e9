"""`echodiff check`: is this a sound frames folder, and does it tell nobody's name?"""
