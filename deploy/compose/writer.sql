CALL demo_write() \watch 2
